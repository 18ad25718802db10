import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.canonicalize_straight_through import CanonicalizeStraightThrough

MERGE = relax.transform.EliminateCommonSubexpr()


@I.ir_module
class Detached:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            sign = R.sign(x)
            clipped = R.clip(x, -1, 1)
            difference = R.subtract(sign, clipped)
            again = R.clip(x, -1, 1)
            y = R.add(difference, again)
            R.output(y)
        return y


@I.ir_module
class Plain:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            y = R.sign(x)
            R.output(y)
        return y


@I.ir_module
class Residual:
    @R.function
    def main(x: R.Tensor((2, 3), "float32"), z: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            difference = R.subtract(x, z)
            y = R.add(difference, x)
            R.output(y)
        return y


@I.ir_module
class Broadcast:
    @R.function
    def main(x: R.Tensor((3,), "float32"), z: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            difference = R.subtract(x, z)
            y = R.add(z, difference)
            R.output(y)
        return y


def _after(mod: tvm.IRModule) -> tvm.IRModule:
    passes = [MERGE, CanonicalizeStraightThrough(), relax.transform.CanonicalizeBindings()]
    return relax.transform.DeadCodeElimination()(tvm.transform.Sequential(passes)(mod))


def test_f_minus_g_plus_g_is_f() -> None:
    tvm.ir.assert_structural_equal(_after(Detached), relax.transform.CanonicalizeBindings()(Plain))


def test_other_sums_stay() -> None:
    for module in (Residual, Broadcast):
        tvm.ir.assert_structural_equal(_after(module), relax.transform.CanonicalizeBindings()(module))
