import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.bitserial.canonicalize_straight_through import CanonicalizeStraightThrough

WEIGHT = relax.const(np.linspace(-2, 3, 6, dtype="float32").reshape(2, 3))
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
class DetachedExactly:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            sign = R.sign(x)
            clipped = R.clip(x, -1, 1)
            nothing = R.subtract(clipped, clipped)
            y = R.add(sign, nothing)
            R.output(y)
        return y


@I.ir_module
class NothingOfMore:
    @R.function
    def main(x: R.Tensor((3,), "float32"), z: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            nothing = R.subtract(z, z)
            y = R.add(x, nothing)
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


@I.ir_module
class Magic:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            difference = R.subtract(x, R.const(12582912.0, "float32"))
            y = R.add(difference, R.const(12582912.0, "float32"))
            R.output(y)
        return y


@I.ir_module
class MagicTensor:
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            number = R.full_like(x, R.const(12582912.0, "float32"))
            difference = R.subtract(x, number)
            y = R.add(difference, number)
            R.output(y)
        return y


def _shifted(shift: relax.Expr, of_input: bool) -> tvm.IRModule:
    """``(f − shift) + shift``, where f is the sign of the input or of the constant itself."""
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((2, 3), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            sign = builder.emit(relax.op.sign(x if of_input else shift))
            back = builder.emit(relax.op.add(builder.emit(relax.op.subtract(sign, shift)), shift))
            y = builder.emit_output(relax.op.add(x, back))
        builder.emit_func_output(y)
    return builder.get()


def _after(mod: tvm.IRModule) -> tvm.IRModule:
    passes = [MERGE, CanonicalizeStraightThrough(), relax.transform.CanonicalizeBindings()]
    return relax.transform.DeadCodeElimination()(tvm.transform.Sequential(passes)(mod))


def test_f_minus_g_plus_g_is_f_and_so_is_f_plus_g_minus_g() -> None:
    for module in (Detached, DetachedExactly):
        tvm.ir.assert_structural_equal(_after(module), relax.transform.CanonicalizeBindings()(Plain))


def test_other_sums_stay() -> None:
    for module in (Residual, Broadcast, NothingOfMore, Magic, MagicTensor, _shifted(WEIGHT, of_input=True)):
        tvm.ir.assert_structural_equal(_after(module), relax.transform.CanonicalizeBindings()(module))


def test_a_constant_weight_gives_its_gradient_to_what_is_computed_from_it() -> None:
    text = _after(_shifted(WEIGHT, of_input=False)).script()
    assert "R.sign" in text
    assert "R.subtract" not in text
