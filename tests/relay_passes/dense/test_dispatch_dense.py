"""Grouped convolutions; plain ones are tested as operators and in whole networks."""

import itertools
import math

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.s_tir import Schedule

import tvm_fastconv as fc
from tvm_fastconv.relay_passes import graph_passes
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.schedules.loops import anchors_of

WIDTHS = (2, 4, 8, 12, 16, 24, 40)
HASWELL = "x86_64-linux-gnu -mcpu=haswell"
TOLERANCE = 2e-6  # float32 sums of up to 360 terms in another order, relative to the largest output


class _Grouped(nn.Module):
    """3×3 convolutions of one width, with odd and even numbers of groups, strides 1 and 2, paddings even and odd."""

    def __init__(self, width: int) -> None:
        super().__init__()
        counts = (3, 4) if width > 12 else (9, 10)
        self.channels = [width * groups for groups in counts]
        self.layers = nn.ModuleList(
            nn.Conv2d(width * groups, width * groups, 3, stride, padding, groups=groups)
            for groups, stride, padding in itertools.product(counts, (1, 2), (1, (0, 1)))
        )

    def forward(self, few: torch.Tensor, many: torch.Tensor) -> list[torch.Tensor]:
        half = len(self.layers) // 2
        cropped = nn.functional.pad(many, (2, 0, 0, 1))
        return [layer(few) for layer in self.layers[:half]] + [layer(cropped) for layer in self.layers[half:]]


@pytest.mark.parametrize("width", WIDTHS)
def test_groups_equal_pytorch(width: int) -> None:
    torch.manual_seed(0)
    model = _Grouped(width).eval()
    inputs = tuple(torch.randn(2, channels, 7, 8) for channels in model.channels)
    compiled = fc.compile(model, inputs, target=HASWELL, verify=False)
    for got, want in zip(compiled(*inputs), model(*inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE * want.abs().max().item())


@pytest.mark.parametrize("width", [2, 8, 12])
def test_groups_of_a_dynamic_batch(width: int) -> None:
    model = nn.Conv2d(5 * width, 5 * width, 3, 2, 1, groups=5).eval()
    dims = ({0: torch.export.Dim("n", min=1, max=8)},)
    program = torch.export.export(model, (torch.randn(2, 5 * width, 9, 8),), dynamic_shapes=dims)
    compiled = fc.compile(program, target=HASWELL)
    for batch in (1, 3):
        x = torch.randn(batch, 5 * width, 9, 8)
        want = model(x)
        torch.testing.assert_close(compiled(x), want, rtol=0, atol=TOLERANCE * want.abs().max().item())


def _layers(plane: int) -> tuple[tvm.IRModule, list[int]]:
    """Convolutions of all widths, odd and even numbers of groups and strides; the multiply-adds of each."""
    builder, macs = relax.BlockBuilder(), []
    cases = [(w, g, s) for w in WIDTHS for g in (13, 14) for s in (1, 2)]
    shapes = {w * g: relax.TensorType((1, w * g, plane, plane), "float32") for w, g, _ in cases}
    inputs = {channels: relax.Var(f"x{channels}", ty) for channels, ty in shapes.items()}
    with builder.function("main", list(inputs.values())):
        with builder.dataflow():
            results = []
            for width, groups, stride in cases:
                weight = np.ones((width * groups, width, 3, 3), np.float32)
                conv = relax.op.nn.conv2d(
                    inputs[width * groups], relax.const(weight), stride, 1, groups=groups
                )
                results.append(builder.emit(conv))
                macs.append(weight.size * (-(-plane // stride)) ** 2)
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    return builder.get(), macs


def _executed(func: tirx.PrimFunc) -> int:
    """Multiply-adds of the anchor's whole domain."""
    sch = Schedule(tvm.IRModule({"main": func}))
    (anchor,) = anchors_of(sch)
    return math.prod(int(var.dom.extent) for var in sch.get(anchor).iter_vars)


@pytest.mark.parametrize("plane", [7, 28])
@pytest.mark.parametrize("cpu", ["x86-64-v4", "znver4", "haswell", "x86-64-v2"])
def test_groups_take_at_most_twice_their_work_and_memory(cpu: str, plane: int) -> None:
    target = resolve_target(f"x86_64-linux-gnu -mcpu={cpu}")
    module, macs = _layers(plane)
    with target:
        fused = tvm.transform.Sequential(graph_passes(target))(module)
    calls: list[relax.Call] = []
    for block in fused["main"].body.blocks:
        calls += [b.value for b in block.bindings if isinstance(b.value, relax.Call)]
    ours = [call for call in calls if "conv2d" in str(call.args[0])]
    assert len(ours) == len(macs)
    for call, least in zip(ours, macs, strict=True):
        assert 1 <= _executed(fused[call.args[0]]) / least <= 2, call.args[0]
    weights = [
        arg.value.numpy().nbytes for call in ours for arg in call.args[1] if isinstance(arg, GenericConst)
    ]
    assert sum(weights) <= 2 * sum(4 * w * w * g * 9 for w in WIDTHS for g in (13, 14) for _ in (1, 2))
