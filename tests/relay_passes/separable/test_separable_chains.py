"""Which chains are found in a graph, and what they are called."""

from collections.abc import Callable

import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.separable.separable_chains import separable_chains

from ...close import assert_close
from .chains import MACHINE, X, chains_of, depthwise


def _found(model: nn.Module, x: torch.Tensor) -> list[tuple[str, str, list[str]]]:
    return [(chain.method, chain.op, [s.name for s in chain.stages]) for chain in chains_of(model, x)]


def _stencils(channels: int) -> nn.Conv2d:
    conv = depthwise(channels, multiplier=2, bias=False)
    kernels = torch.tensor([[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]])
    conv.weight.data.copy_(kernels.repeat(channels, 1, 1)[:, None])
    return conv


STRUCTURES: dict[str, tuple[Callable[[], list[nn.Module]], str, str, int]] = {
    "cp": (
        lambda: [nn.Conv2d(16, 8, 1, bias=False), depthwise(8, (3, 1)), depthwise(8, (1, 3)), nn.Conv2d(8, 24, 1)],
        "cp", "cp_conv2d", 4,
    ),
    "cp, columns first": (
        lambda: [nn.Conv2d(16, 8, 1), depthwise(8, (1, 5)), depthwise(8, (5, 1)), nn.Conv2d(8, 24, 1)],
        "cp", "cp_conv2d", 4,
    ),
    "cp with a square": (
        lambda: [nn.Conv2d(16, 8, 1), depthwise(8), nn.Conv2d(8, 24, 1)], "cp", "cp_conv2d", 3,
    ),
    "tucker": (
        lambda: [nn.Conv2d(16, 8, 1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 24, 1)],
        "tucker", "tucker_conv2d", 3,
    ),
    "spatial": (
        lambda: [nn.Conv2d(16, 24, (3, 1)), nn.Conv2d(24, 24, (1, 3))], "spatial", "spatial_conv2d", 2,
    ),
    "spatial in groups": (
        lambda: [nn.Conv2d(16, 24, (1, 3), groups=2), nn.Conv2d(24, 24, (3, 1), groups=4)],
        "spatial", "spatial_conv2d", 2,
    ),
    "depthwise separable": (
        lambda: [depthwise(16), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 1)],
        "separable", "separable_conv2d", 2,
    ),
    "depthwise separable without activation": (
        lambda: [depthwise(16, multiplier=2), nn.Conv2d(32, 24, 1)], "separable", "separable_conv2d", 2,
    ),
    "inverted bottleneck": (
        lambda: [
            nn.Conv2d(16, 48, 1), nn.Hardswish(), depthwise(48, 5, stride=2), nn.ReLU6(), nn.Conv2d(48, 24, 1),
        ],
        "separable", "inverted_bottleneck", 3,
    ),
    "fixed stencils": (
        lambda: [_stencils(16), nn.Conv2d(32, 24, 1)], "fixed", "fixed_stencil_conv2d", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_structure_is_found(structure: str) -> None:
    layers, method, op, count = STRUCTURES[structure]
    modules = layers()
    names = [str(i) for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    assert _found(nn.Sequential(*modules), X) == [(method, op, names)]
    assert len(names) == count


class _Tapped(nn.Module):
    """A CP chain whose value in front of layer ``tap`` is an output too."""

    def __init__(self, tap: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(STRUCTURES["cp"][0]())
        self.tap = tap

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tapped = x
        for i, layer in enumerate(self.layers):
            tapped = x if i == self.tap else tapped
            x = layer(x)
        return x, tapped


@pytest.mark.parametrize("tap", [1, 2, 3])
def test_what_others_read_is_no_inner_value(tap: int) -> None:
    assert all(chain.method != "cp" for chain in chains_of(_Tapped(tap), X))


def test_an_activation_inside_is_no_cp() -> None:
    layers = STRUCTURES["cp"][0]()
    # What is left is a depthwise convolution and the 1×1 convolution behind it.
    assert _found(nn.Sequential(*layers[:1], nn.ReLU(), *layers[1:]), X) == [
        ("spatial", "spatial_conv2d", ["2", "3"])
    ]


def test_a_chain_of_mobilenet_v1_is_cut_in_pairs() -> None:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [depthwise(16), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU()]
    names = [chain[2] for chain in _found(nn.Sequential(*layers), X)]
    assert names == [["0", "2"], ["4", "6"], ["8", "10"]]


class _Add(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("constant", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.constant


@pytest.mark.parametrize(
    ("layers", "chains"),
    [
        (
            [
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(16, 32, 1),
                _Add(32, 8, 8),
                depthwise(32),
                nn.Conv2d(32, 16, 1),
            ],
            [["3", "4"]],
        ),
        ([depthwise(16), _Add(4, 16, 12, 12), nn.Conv2d(16, 24, 1)], []),
        ([nn.Conv2d(16, 1, (3, 1)), _Add(8, 1, 1), nn.Conv2d(8, 8, (1, 3))], []),
    ],
)
def test_what_a_constant_makes_larger_is_another_value(
    layers: list[nn.Module], chains: list[list[str]]
) -> None:
    model = nn.Sequential(*layers)
    assert [names for _, _, names in _found(model, X)] == chains
    # 1e-5: sums in another order, of values that the constants make no larger
    want = model(X)
    assert_close(fc.compile(model, (X,))(X), want, 1e-5)


def test_dense_layers_are_no_chain() -> None:
    model = nn.Sequential(
        nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 8, 1)
    )
    assert _found(model, X) == []


def test_stencils_of_zeros_are_no_stencils() -> None:
    layers = STRUCTURES["fixed stencils"][0]()
    layers[0].weight.data.zero_()
    assert [chain.method for chain in chains_of(nn.Sequential(*layers), X)] == ["separable"]


def test_layers_kept_apart_leave_the_others_a_chain() -> None:
    model = nn.Sequential(*STRUCTURES["inverted bottleneck"][0]()).eval()
    mod = tvm.IRModule({"main": import_model(model, (X,)).mod["main"]})
    mod = tvm.transform.Sequential([*pipeline.simplify(), *pipeline.canonicalize(MACHINE)])(mod)
    chains = separable_chains(mod["main"], apart=["0"])
    assert [[stage.name for stage in chain.stages] for chain in chains] == [["2", "4"]]


def test_the_graph_is_read_only() -> None:
    mod = tvm.IRModule({"main": import_model(nn.Sequential(*STRUCTURES["cp"][0]()).eval(), (X,)).mod["main"]})
    mod = tvm.transform.Sequential([*pipeline.simplify(), *pipeline.canonicalize(MACHINE)])(mod)
    before = mod.script()
    separable_chains(mod["main"])
    assert mod.script() == before
    assert isinstance(mod["main"], relax.Function)
