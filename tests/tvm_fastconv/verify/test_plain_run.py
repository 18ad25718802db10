import numpy as np
import pytest
import torch
import tvm
from torch.nn import functional
from tvm import relax

from tvm_fastconv.verify.plain_run import plain_run

from ...close import assert_close

ATTRIBUTES = [
    {},
    {"strides": (2, 1), "padding": (1, 0, 2, 3), "dilation": (1, 2)},
    {"groups": 2, "padding": (0, 2, 1, 0)},
]


def _function(op: object, weight: np.ndarray, **attrs: object) -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType((2, 9, 11, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(op(x, relax.const(weight), data_layout="NHWC", **attrs))
        builder.emit_func_output(result)
    return builder.get()


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + shape[0]).standard_normal(shape, np.float32)


@pytest.mark.parametrize("attrs", ATTRIBUTES)
def test_convolutions_agree_with_the_loops_of_tvm(attrs: dict) -> None:
    mod = _function(
        relax.op.nn.conv2d, _random(6, 3, 2, 8 // attrs.get("groups", 1)), kernel_layout="OHWI", **attrs
    )
    x = _random(2, 9, 11, 8)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target({"kind": "llvm"})), tvm.cpu())
    want = machine["main"](tvm.runtime.tensor(x)).numpy()
    (got,) = plain_run(mod)(x)
    # 1e-5: sums of some 50 products in another order
    assert_close(got, want, 1e-5)


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 2, 1, 0)])
def test_transposed_convolutions(padding: tuple[int, int, int, int]) -> None:
    weight, x = _random(8, 3, 3, 4), _random(2, 9, 11, 8)
    mod = _function(
        relax.op.nn.conv2d_transpose,
        weight,
        kernel_layout="IOHW",
        strides=(2, 1),
        padding=padding,
        output_padding=(1, 0),
        groups=2,
    )
    top, left, bottom, right = padding
    data = torch.from_numpy(x).permute(0, 3, 1, 2)
    whole = functional.conv_transpose2d(
        data, torch.from_numpy(weight), stride=(2, 1), output_padding=(1, 0), groups=2
    )
    want = whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right].permute(0, 2, 3, 1)
    (got,) = plain_run(mod)(x)
    assert got.shape == tuple(int(n) for n in mod["main"].ret_ty.shape)
    # 1e-6: the same sums
    assert_close(got, want, 1e-6)
