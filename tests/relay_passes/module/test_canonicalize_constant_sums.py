"""Sums over constants are as exact as PyTorch's, however many terms they have and whatever asks for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import tvm
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.canonicalize_constant_sums import (
    CanonicalizeConstantSums,
    constant_values,
)

from ..evaluate import evaluate

TERMS = 50_000_000
SIDES = (5000, 10_000)
EXACT = 1e-6  # relative: one rounding to float32 of the sum, and of what is computed from it


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor((2, 3), "float32"), c: R.Tensor((3,), "float32")):
        with R.dataflow():
            size = R.abs(R.const([1.0, -2.0, 3.0], "float32"))
            total = R.sum(size)
            integers = R.sum(R.const([1, 2], "int64"))
            row = R.sum(x, axis=[1])
            y = R.multiply(row, total)
            z = R.add(y, R.astype(integers, "float32"))
            R.output(z)
        return z


@I.ir_module
class After:
    @R.function
    def main(x: R.Tensor((2, 3), "float32"), c: R.Tensor((3,), "float32")):
        with R.dataflow():
            size = R.abs(R.const([1.0, -2.0, 3.0], "float32"))
            double = R.astype(size, "float64")
            summed = R.reshape(R.sum(double), (1,))
            total = R.reshape(R.astype(summed, "float32"), ())
            integers = R.sum(R.const([1, 2], "int64"))
            row = R.sum(x, axis=[1])
            y = R.multiply(row, total)
            z = R.add(y, R.astype(integers, "float32"))
            R.output(z)
        return z


def test_float_sums_of_constants_are_done_in_double_and_no_others() -> None:
    tvm.ir.assert_structural_equal(CanonicalizeConstantSums()(Before), relax.transform.Normalize()(After))
    assert len(constant_values(Before["main"])) == 4


class Sum(nn.Module):
    """An input times what ``function`` makes of a large weight."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.function(self.weight)


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    """Positive, so that errors of a sum add up."""
    return torch.rand(SIDES, generator=torch.Generator().manual_seed(0))


TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda w: w.sum(),
    "sum of columns": lambda w: w.reshape(-1, 2).sum(0)[0],
    "mean": lambda w: w.abs().mean(),
    "variance": lambda w: w.var(),
    "deviation": lambda w: w.std(correction=0),
    "norm": lambda w: torch.linalg.vector_norm(w),
    "product": lambda w: torch.where(w.reshape(-1) > 0.5, 1 + 2.0**-12, 1 - 2.0**-12).to(w.dtype).prod(),
    "logarithm of exponentials": lambda w: torch.logsumexp(w.reshape(-1), 0),
    "softmax": lambda w: torch.softmax(w.reshape(-1), 0)[0] * TERMS,
    "running sum": lambda w: torch.cumsum(w.reshape(-1), 0)[-1],
    "matrix product": lambda w: (w.reshape(1, -1) @ w.reshape(-1, 1))[0, 0],
    "linear": lambda w: F.linear(w.reshape(1, -1), w.reshape(1, -1))[0, 0],
    "convolution": lambda w: F.conv2d(w[None, None], w[None, None])[0, 0, 0, 0],
    "pooling": lambda w: F.adaptive_avg_pool2d(w[None, None], 1)[0, 0, 0, 0],
}  # fmt: skip

ONNX: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ReduceSum": lambda w: w.sum(),
    "ReduceMean": lambda w: w.mean(),
    "ReduceL1": lambda w: np.abs(w).sum(),
    "ReduceL2": lambda w: np.sqrt((w * w).sum()),
    "ReduceSumSquare": lambda w: (w * w).sum(),
    "ReduceLogSum": lambda w: np.log(w.sum()),
    "ReduceLogSumExp": lambda w: np.log(np.exp(w).sum()),
}


def _scale(mod: tvm.IRModule) -> float:
    """What ``mod`` multiplies its input by."""
    simple = tvm.transform.Sequential(pipeline.simplify())(mod)
    return float(evaluate(simple, np.ones((2, 3), np.float32))[0, 0])


@pytest.mark.parametrize("function", [lambda w: w.mean() * torch.sign(w), lambda w: w / w.std(0)])
def test_what_is_computed_from_sums_is_folded_too(function: Callable) -> None:
    mod = import_model(Sum(function, torch.randn(2, 3)).eval(), torch.ones(2, 3)).mod
    simple = tvm.transform.Sequential(pipeline.simplify())(mod)
    assert sum(len(block.bindings) for block in simple["main"].body.blocks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_sums_of_torch(name: str, weight: torch.Tensor) -> None:
    got = _scale(import_model(Sum(TORCH[name], weight).eval(), torch.ones(2, 3)).mod)
    assert got == pytest.approx(float(TORCH[name](weight.double())), rel=EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONNX)
def test_sums_of_onnx(name: str, weight: torch.Tensor, tmp_path: Path) -> None:
    nodes = [
        helper.make_node(name, ["w"], ["total"], keepdims=0),
        helper.make_node("Mul", ["x", "total"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    constant = numpy_helper.from_array(weight.numpy(), "w")
    model = helper.make_model(
        helper.make_graph(nodes, "sums", [x], [y], [constant]), opset_imports=[helper.make_opsetid("", 18)]
    )
    onnx.save(model, tmp_path / "sums.onnx")
    got = _scale(import_model(str(tmp_path / "sums.onnx")).mod)
    assert got == pytest.approx(float(ONNX[name](weight.numpy().astype(np.float64))), rel=EXACT)
