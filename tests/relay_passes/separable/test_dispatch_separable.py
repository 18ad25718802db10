"""Chains of separable convolutions, from PyTorch to the answer of the compiled file, and the way each of them runs."""

from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.relay_passes.separable import dispatch_separable
from tvm_fastconv.topi import chain

from ...choices import HASWELL, ZEN_4, Choice, choices
from ...close import assert_close

# Float32 sums in another order, through four layers; Winograd, which may stand for all of them, adds 1e-5.
TOLERANCE, WINOGRAD = 5e-6, 2e-5


def _stencils(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, 5 * channels, 3, padding=1, groups=channels, bias=False)
    conv.weight.data.copy_(torch.from_numpy(STENCILS).repeat(channels, 1, 1)[:, None])
    return conv


def _cp(channels: int, rank: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, rank, 1, bias=False),
        nn.Conv2d(rank, rank, (3, 1), padding=(1, 0), groups=rank, bias=False),
        nn.Conv2d(rank, rank, (1, 3), padding=(0, 1), groups=rank, bias=False),
        nn.Conv2d(rank, outputs, 1),
        nn.ReLU(),
    )


def _inverted_bottleneck(channels: int, middle: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, middle, 1), nn.ReLU6(),
        nn.Conv2d(middle, middle, 3, 1, 1, groups=middle), nn.ReLU6(),
        nn.Conv2d(middle, channels, 1),
    )  # fmt: skip


def _compiled(
    model: nn.Module,
    x: torch.Tensor,
    methods: object = None,
    tolerance: float = TOLERANCE,
    target: str = "native",
) -> fc.CompiledModel:
    """Compiled, and checked against PyTorch on another input than the example."""
    compiled = fc.compile(model.eval(), (x,), methods=methods, target=target)
    other = torch.randn_like(x)
    assert_close(compiled(other), model(other), tolerance)
    return compiled


def _ways(layers: Iterable[Choice | fc.LayerReport]) -> list[tuple[str, str, str, str]]:
    return [(r.name, r.method, r.op, r.reason.partition(":")[0]) for r in layers]


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fuse whatever can be."""
    monkeypatch.setattr(dispatch_separable, "unfused_cycles", lambda *_: float("inf"))
    monkeypatch.setattr(dispatch_separable, "reconstructed", lambda _: None)
    monkeypatch.setattr(chain, "MIN_TASKS", 1)


@pytest.fixture
def multiply_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply out whatever can be."""
    monkeypatch.setattr(dispatch_separable, "unfused_cycles", lambda *_: float("inf"))
    monkeypatch.setattr(dispatch_separable, "fused_plan", lambda *_: None)


def test_a_fused_chain_is_one_function_and_all_of_its_layers(fuse: None) -> None:
    compiled = _compiled(nn.Sequential(_cp(32, 16, 24)), torch.randn(1, 32, 16, 16))
    assert _ways(compiled.layers) == [(f"0.{i}", "cp", "cp_conv2d", "fused") for i in range(4)]
    profile = compiled.profile(torch.randn(1, 32, 16, 16))
    assert [call.layer for call in profile.calls if call.layer] == ["0.3"]
    assert sum(r.operations for r in compiled.layers) == 16 * 16 * (32 * 16 + 3 * 16 * 2 + 16 * 24)


@pytest.mark.native
def test_a_wide_inverted_bottleneck_is_fused_by_estimate() -> None:
    model, x = _inverted_bottleneck(16, 96), torch.randn(1, 16, 112, 112)
    model[2].stride = (2, 2)
    _compiled(model, x)
    ways = _ways(choices(model, (x,), ZEN_4).layers)
    assert {way[1:] for way in ways} == {("separable", "inverted_bottleneck", "fused")}


def test_a_small_plane_is_not() -> None:
    layers = choices(_inverted_bottleneck(96, 576).eval(), (torch.randn(1, 96, 7, 7),), ZEN_4).layers
    assert {(method, way) for _, method, _, way in _ways(layers)} == {("separable", "unfused")}


def test_stencils_are_multiplied_out_where_winograd_is_faster() -> None:
    model, x = nn.Sequential(_stencils(64), nn.Conv2d(320, 128, 1), nn.ReLU()), torch.randn(1, 64, 56, 56)
    _compiled(model, x, tolerance=WINOGRAD)
    layers = choices(model, (x,), ZEN_4).layers
    assert _ways(layers) == [("1", "fixed", "winograd_conv2d", "dense(reconstructed)")]
    assert "0 + 1" in layers[0].reason


def test_what_was_asked_for_by_name_is_not_multiplied_out() -> None:
    model = nn.Sequential(nn.Conv2d(64, 128, 3, padding=1))
    x = torch.randn(1, 64, 56, 56)
    with pytest.warns(UserWarning, match=r"take longer by estimate than dense ones would: 0 \(\d"):
        layers = choices(model.eval(), (x,), ZEN_4, fc.FixedStencil()).layers
    assert {(r.method, r.op) for r in layers} == {("fixed", "fixed_stencil_conv2d")}


def test_what_had_no_use_for_what_was_asked_is_multiplied_out_like_any_other() -> None:
    model = nn.Sequential(_stencils(64), nn.Conv2d(320, 128, 1), nn.ReLU())
    layers = choices(model.eval(), (torch.randn(1, 64, 56, 56),), ZEN_4, {"1": fc.CP(rank=8)}).layers
    assert [(r.op, r.method) for r in layers] == [("winograd_conv2d", "fixed")]


def test_large_stencils_without_structure_run_as_kernels_of_their_own(fuse: None) -> None:
    stencils = nn.Conv2d(16, 64, 9, padding=4, groups=16, bias=False)
    stencils.weight.data.copy_(torch.randn(4, 9, 9).repeat(16, 1, 1)[:, None])
    compiled = _compiled(nn.Sequential(stencils, nn.Conv2d(64, 8, 1)), torch.randn(1, 16, 32, 32))
    assert {(r.method, r.op) for r in compiled.layers} == {("fixed", "fixed_stencil_conv2d")}


def test_dense_on_request_keeps_a_layer_out_of_its_chain(fuse: None) -> None:
    compiled = _compiled(nn.Sequential(_cp(32, 16, 24)), torch.randn(1, 32, 16, 16), {"0.3": fc.Dense()})
    ops = {r.name: (r.method, r.op) for r in compiled.layers}
    assert ops["0.3"] == ("dense", "conv2d")
    assert ops["0.1"] == ops["0.2"] == ("spatial", "spatial_conv2d")


class _Block(nn.Module):
    """A residual block: the sum behind the chain joins it, the value in front of it is read twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.inner(x))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "two equal residual blocks": (
        lambda: nn.Sequential(_Block(_inverted_bottleneck(16, 40)), _Block(_inverted_bottleneck(16, 40))),
        (2, 16, 12, 12),
    ),
    "stencils with a bias between, and 17 channels": (
        lambda: nn.Sequential(_stencils(17), nn.BatchNorm2d(85), nn.Conv2d(85, 20, 1), nn.ReLU()), (1, 17, 9, 11),
    ),
    "stencils with an activation between": (
        lambda: nn.Sequential(_stencils(16), nn.ReLU(), nn.Conv2d(80, 20, 1)), (1, 16, 9, 11),
    ),
    "a multiplier": (
        lambda: nn.Sequential(nn.Conv2d(32, 96, 3, 2, 1, groups=32), nn.Conv2d(96, 40, 1), nn.Hardswish()),
        (1, 32, 14, 14),
    ),
    "grouped spatial": (
        lambda: nn.Sequential(
            nn.Conv2d(16, 32, (3, 1), groups=2), nn.Conv2d(32, 32, (1, 3), groups=4), nn.ReLU()
        ),
        (1, 16, 9, 11),
    ),
    "a padding behind it": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, (5, 1), padding=(2, 0)), nn.Conv2d(5, 17, (1, 5), padding=(0, 2)),
            nn.ZeroPad2d((0, 0, 0, 1)), nn.PixelUnshuffle(2),
        ),
        (2, 3, 5, 4),
    ),
    "depthwise spatial": (
        lambda: nn.Sequential(
            nn.Conv2d(16, 16, (5, 1), padding=(2, 0), groups=16), nn.Conv2d(16, 16, (1, 5), groups=16), nn.ReLU()
        ),
        (1, 16, 12, 11),
    ),
    "tucker behind an activation": (
        lambda: nn.Sequential(
            nn.ReLU(), nn.Conv2d(24, 8, 1, bias=False), nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.Conv2d(12, 40, 1),
        ),
        (1, 24, 13, 15),
    ),
}  # fmt: skip


UNFUSED = {"stencils with an activation between", "grouped spatial"}
"""Kernels of a channel are put into another order, which only a bias may follow; groups have no such template."""


@pytest.mark.parametrize("target", [pytest.param("native", marks=pytest.mark.native), HASWELL])
@pytest.mark.parametrize("model", MODELS)
def test_fused_it_computes_what_pytorch_does(fuse: None, model: str, target: str) -> None:
    make, shape = MODELS[model]
    compiled = _compiled(make(), torch.randn(*shape), target=target)
    fused = [layer.name for layer in compiled.layers if layer.reason.startswith("fused: ")]
    assert (len(fused) > 1) == (model not in UNFUSED)
    assert any(call.function.startswith("fused_chain") for call in compiled.manifest.calls) == bool(fused)


@pytest.mark.native
@pytest.mark.parametrize("model", MODELS)
def test_multiplied_out_it_computes_what_pytorch_does(multiply_out: None, model: str) -> None:
    make, shape = MODELS[model]
    _compiled(make(), torch.randn(*shape), tolerance=WINOGRAD)


def test_a_dynamic_batch_is_left_unfused(fuse: None) -> None:
    model = nn.Sequential(_cp(32, 16, 24)).eval()
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(model, (torch.randn(2, 32, 16, 16),), dynamic_shapes=({0: batch},))
    compiled = fc.compile(program)
    x = torch.randn(3, 32, 16, 16)
    assert_close(compiled(x), model(x), TOLERANCE)
    assert {(r.method, r.op) for r in compiled.layers} == {("cp", "conv2d"), ("cp", "depthwise_conv2d")}


ACTIVATIONS: list[Callable[[int], nn.Module]] = [
    lambda _: nn.Identity(), lambda _: nn.ReLU6(), lambda _: nn.Hardswish(), nn.BatchNorm2d, nn.PReLU,
]  # fmt: skip


@st.composite
def _geometry(
    draw: st.DrawFn, channels: int, outputs: int, kernel: tuple[int, int], groups: int
) -> nn.Conv2d:
    stride = tuple(draw(st.sampled_from([1, 1, 2])) if k > 1 else 1 for k in kernel)
    dilation = tuple(draw(st.sampled_from([1, 1, 2])) if k > 1 else 1 for k in kernel)
    padding = tuple(
        draw(st.integers(0, k // 2 * d + 1)) if k > 1 else draw(st.sampled_from([0, 0, 0, 1]))
        for k, d in zip(kernel, dilation, strict=True)
    )
    bias = draw(st.booleans())
    return nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups, bias)  # type: ignore[arg-type]


@st.composite
def _chain(draw: st.DrawFn) -> tuple[nn.Sequential, int]:
    c, o = draw(st.sampled_from([3, 16, 24, 33])), draw(st.sampled_from([1, 5, 16, 48]))
    k, rank = draw(st.sampled_from([2, 3, 5])), draw(st.sampled_from([2, 4, 16, 20]))
    wide = max(c, o) + draw(st.sampled_from([1, 16, 30]))

    def conv(i: int, j: int, kernel: tuple[int, int] = (1, 1), groups: int = 1) -> nn.Conv2d:
        return draw(_geometry(i, j, kernel, groups))

    def act(channels: int) -> nn.Module:
        return draw(st.sampled_from(ACTIVATIONS))(channels)

    kinds: dict[str, Callable[[], list[nn.Module]]] = {
        "cp": lambda: [
            conv(c, rank),
            conv(rank, rank, (k, 1), rank),
            conv(rank, rank, (1, k), rank),
            conv(rank, o),
        ],
        "cp, square": lambda: [conv(c, rank), conv(rank, rank, (k, k), rank), conv(rank, o)],
        "tucker": lambda: [conv(c, rank), conv(rank, 12, (k, k)), conv(12, o)],
        "spatial": lambda: [conv(c, o, (1, k)), conv(o, o, (k, 1))],
        "bottleneck": lambda: [
            conv(c, wide),
            act(wide),
            conv(wide, wide, (k, k), wide),
            act(wide),
            conv(wide, o),
        ],
        "separable": lambda: [conv(c, c, (k, k), c), act(c), conv(c, o)],
    }
    return nn.Sequential(*kinds[draw(st.sampled_from(sorted(kinds)))](), act(o)), c


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=_chain(),
    batch=st.sampled_from([1, 2]),
    height=st.sampled_from([8, 12, 13]),
    width=st.sampled_from([7, 16]),
)
def test_any_chain(fuse: None, case: tuple[nn.Sequential, int], batch: int, height: int, width: int) -> None:
    model, channels = case
    x = torch.randn(batch, channels, height, width)
    try:
        want = model.eval()(x)
    except RuntimeError:  # a kernel larger than what is left of the plane
        return
    if want.numel() and want.abs().max() > 0:
        _compiled(model, x)
