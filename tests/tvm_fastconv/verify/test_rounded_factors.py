"""Layers that round their factors are allowed what that does to a sum, and no more; all others what they were."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes.graph.source_values import SourceValue, name_values
from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.tf32_conv2d import round_to_tf32
from tvm_fastconv.verify import Source, verify
from tvm_fastconv.verify.compare import Comparison, compare
from tvm_fastconv.verify.relax_slices import RelaxSlices
from tvm_fastconv.verify.source import TF32_UNIT
from tvm_fastconv.verify.torch_nodes import TorchNodes
from tvm_fastconv.verify.trace import Arrays, Trace

RNG = np.random.default_rng(0)


def _normal(*shape: int, mean: float = 0.0) -> np.ndarray:
    return (RNG.standard_normal(shape) + mean).astype(np.float32)


INPUTS = {
    "normal": _normal(2, 64, 9, 9),
    "of one sign": np.abs(_normal(2, 64, 9, 9)),
    "that cancel": _normal(2, 64, 9, 9, mean=30.0),
}
WEIGHTS = {
    "normal": _normal(8, 64, 3, 3),
    "equal": np.full((8, 64, 3, 3), 1 / 3 + 1e-4, np.float32),
    "that cancel": _normal(8, 64, 3, 3) * np.array([1.0, 1e-3] * 32, np.float32)[:, None, None],
}


def _layer(weight: np.ndarray) -> nn.Module:
    layer = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    layer.weight.data = torch.from_numpy(weight)
    return layer.eval()


def _by_torch(weight: np.ndarray) -> Source:
    program = import_model(_layer(weight), torch.zeros(2, 64, 9, 9)).program
    assert program is not None
    return TorchNodes(program)


def _by_relax(weight: np.ndarray) -> Source:
    mod = name_values(import_model(_layer(weight), torch.zeros(2, 64, 9, 9)).mod)
    return RelaxSlices(mod, resolve_target("native"), "the graph")


def _in_tf32(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    rounded = (torch.from_numpy(round_to_tf32(each)).double() for each in (x, weight))
    return F.conv2d(*rounded, padding=1).float().numpy()


def _compared(source: Source, x: np.ndarray, got: np.ndarray, factors: float) -> Comparison:
    name, known = source.outputs[0], {source.inputs[0]: x}
    return compare(got, source.evaluate(name, known), source, name, known, factors)


@pytest.mark.parametrize("by", [_by_torch, _by_relax])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("x", INPUTS)
def test_rounded_factors_are_no_bug_where_they_are_allowed(
    x: str, weight: str, by: Callable[[np.ndarray], Source]
) -> None:
    source, got = by(WEIGHTS[weight]), _in_tf32(INPUTS[x], WEIGHTS[weight])
    assert _compared(source, INPUTS[x], got, TF32_UNIT).agrees
    assert not _compared(source, INPUTS[x], got, 0.0).agrees


@pytest.mark.parametrize("by", [_by_torch, _by_relax])
@pytest.mark.parametrize("x", ["normal", "of one sign"])
def test_a_missing_term_is_a_bug_all_the_same(x: str, by: Callable[[np.ndarray], Source]) -> None:
    """One channel of 64 under one tap of nine."""
    broken = WEIGHTS["normal"].copy()
    broken[:, 5, 1, 2] = 0
    source = by(WEIGHTS["normal"])
    assert not _compared(source, INPUTS[x], _in_tf32(INPUTS[x], broken), TF32_UNIT).agrees


@pytest.mark.parametrize("by", [_by_torch, _by_relax])
def test_three_bits_less_are_a_bug(by: Callable[[np.ndarray], Source]) -> None:
    """bfloat16 has seven bits behind the point."""
    x, weight = (torch.from_numpy(each).bfloat16().double() for each in (INPUTS["normal"], WEIGHTS["normal"]))
    got = F.conv2d(x, weight, padding=1).float().numpy()
    assert not _compared(by(WEIGHTS["normal"]), INPUTS["normal"], got, TF32_UNIT).agrees


@pytest.mark.parametrize("op", ["tf32_conv2d", "conv2d"])
def test_what_is_allowed_follows_the_operator(op: str) -> None:
    source, weight = _by_torch(WEIGHTS["normal"]), WEIGHTS["normal"]
    layer = {"name": "conv", "method": "dense", "op": op}
    call = RecordedCall("fused_conv2d", [layer], [], SourceValue(name=source.outputs[0]), [0], True)

    def run(inputs: Arrays) -> Trace:
        got = _in_tf32(inputs[0], weight)
        return Trace({0: got}, (got,), (got,))

    specs = [TensorSpec(name="y", shape=(2, 8, 9, 9), dtype="float32")]
    if op == "conv2d":
        with pytest.raises(FastconvError, match=r"wrong in conv: .* \(allowed: 2e-05 and float noise\)"):
            verify(specs, run, source, (INPUTS["normal"],), [call])
        return
    verdict = verify(specs, run, source, (INPUTS["normal"],), [call])
    assert 1e-5 < verdict.errors["conv"] < 2 * TF32_UNIT
