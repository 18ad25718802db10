import math
from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.dense.dispatch_winograd import winograd_plans
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.relay_passes.pipeline import canonicalize, dispatch, fuse, simplify
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
PLANNER = Planner(machine_of(TARGET))
op = relax.op


def _operators(
    then: Callable[[relax.BlockBuilder, relax.Expr], relax.Expr] = lambda bb, y: y,
    kernel: int = 3,
    stride: int = 1,
    plane: int = 28,
    channels: int = 64,
    growth: float = math.inf,
) -> list[str]:
    """Operators chosen for a convolution that ``then`` follows."""
    weight = np.random.default_rng(0).standard_normal((channels, channels, kernel, kernel), np.float32)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, channels, plane, plane), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            conv = builder.emit(op.nn.conv2d(x, relax.const(weight), strides=stride, padding=kernel // 2))
            result = builder.emit_output(then(builder, conv))
        builder.emit_func_output(result)
    with TARGET:
        passes = [*simplify(), *canonicalize(PLANNER.machine), *dispatch(PLANNER, {}, growth), *fuse()]
        fused = tvm.transform.Sequential(passes)(builder.get())
    return [layer["op"] for call in recorded_calls(fused) for layer in call.layers if "op" in layer]


def _norm_then_sign(bb: relax.BlockBuilder, y: relax.Expr) -> relax.Expr:
    scaled = bb.emit(op.multiply(y, relax.const(np.full((1, 64, 1, 1), 2, "float32"))))
    return bb.emit(op.sign(bb.emit(op.nn.max_pool2d(scaled, (2, 2)))))


@pytest.mark.parametrize("kernel", [3, 5])
def test_takes_a_wide_layer(kernel: int) -> None:
    assert _operators(lambda bb, y: bb.emit(op.nn.relu(y)), kernel) == ["winograd_conv2d"]


@pytest.mark.parametrize("kernel", [5, 7])
def test_takes_the_phases_of_a_wide_kernel(kernel: int) -> None:
    assert _operators(kernel=kernel, stride=2, plane=56) == ["winograd_conv2d"]


def test_not_on_a_gpu_where_they_were_never_measured() -> None:
    conv = Conv2dParams(kernel=(7, 7), stride=(2, 2), out_channels=64, padding=(3, 3, 3, 3))
    problem = ConvProblem(height=56, width=56, channels=64, conv=conv)
    assert winograd_plans(PLANNER, problem)
    assert not winograd_plans(
        Planner(machine_of(tvm.target.Target({"kind": "cuda", "arch": "sm_80"}))), problem
    )


@pytest.mark.parametrize(
    "then",
    [
        lambda bb, y: bb.emit(op.sign(y)),
        lambda bb, y: bb.emit(op.round(y)),
        lambda bb, y: bb.emit(op.where(op.greater(y, relax.const(0.0)), y, y)),
        _norm_then_sign,
    ],
)
def test_never_feeds_a_decision(then: Callable[[relax.BlockBuilder, relax.Expr], relax.Expr]) -> None:
    assert _operators(then) == ["conv2d"]


@pytest.mark.parametrize("other", [{"kernel": 7}, {"stride": 2}, {"channels": 2}, {"plane": 1}])
def test_leaves_what_it_does_not_speed_up(other: dict[str, int]) -> None:
    assert _operators(**other) == ["conv2d"]


def test_a_network_too_large_for_a_device_stays_as_it_is() -> None:
    """256 channels have 2.4 MB of weights, and F(2x2)'s are 1.8 times as large."""
    assert _operators(channels=256) == ["winograd_conv2d"]
    assert _operators(channels=256, growth=1.8) == ["winograd_conv2d"]
    assert _operators(channels=256, growth=1.7) == ["conv2d"]
    assert _operators(channels=64, growth=1.0) == ["conv2d"]
