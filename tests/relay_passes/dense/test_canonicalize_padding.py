import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.dense.canonicalize_padding import CanonicalizePadding


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor((1, 4, 8, 8), "float32"), w: R.Tensor((6, 4, 3, 3), "float32")):
        with R.dataflow():
            padded = R.nn.pad(x, (0, 0, 0, 0, 1, 2, 3, 4))
            y = R.nn.conv2d(padded, w, padding=(1, 0, 1, 0))
            R.output(y)
        return y


@I.ir_module
class After:
    @R.function
    def main(x: R.Tensor((1, 4, 8, 8), "float32"), w: R.Tensor((6, 4, 3, 3), "float32")):
        with R.dataflow():
            y = R.nn.conv2d(x, w, padding=(2, 3, 3, 4))
            R.output(y)
        return y


@I.ir_module
class Ones:
    @R.function
    def main(x: R.Tensor((1, 4, 8, 8), "float32"), w: R.Tensor((6, 4, 3, 3), "float32")):
        with R.dataflow():
            padded = R.nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), pad_value=1.0)
            y = R.nn.conv2d(padded, w)
            R.output(y)
        return y


@I.ir_module
class Channels:
    @R.function
    def main(x: R.Tensor((1, 3, 8, 8), "float32"), w: R.Tensor((6, 4, 3, 3), "float32")):
        with R.dataflow():
            padded = R.nn.pad(x, (0, 0, 0, 1, 1, 1, 1, 1))
            y = R.nn.conv2d(padded, w)
            R.output(y)
        return y


def test_zeros_around_a_plane_become_padding() -> None:
    tvm.ir.assert_structural_equal(CanonicalizePadding()(Before), After)


def test_other_borders_stay() -> None:
    for module in (Ones, Channels):
        tvm.ir.assert_structural_equal(CanonicalizePadding()(module), module)
