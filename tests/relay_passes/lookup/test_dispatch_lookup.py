"""Sparse layers, from PyTorch to the answer of the compiled file, and which way each of them runs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import tvm_fastconv as fc

from ...choices import ZEN_4, choices
from ...close import assert_close

# Float32 sums in another order, through up to five layers.
TOLERANCE = 5e-6


def _sparse(layer: nn.Module, density: float) -> nn.Module:
    kept = torch.rand_like(layer.weight) < density
    layer.weight.data.mul_(kept)
    return layer


def _compiled(model: nn.Module, x: torch.Tensor, methods: object = None) -> fc.CompiledModel:
    """Compiled, and checked against PyTorch on another input than the example."""
    compiled = fc.compile(model.eval(), (x,), methods=methods)
    other = torch.randn_like(x)
    assert_close(compiled(other), model(other), TOLERANCE)
    return compiled


def _functions(model: nn.Module, x: torch.Tensor) -> list[str]:
    """What is called on Zen 4."""
    names = choices(model.eval(), (x,), ZEN_4).functions
    kinds = ("lookup_conv2d", "lookup_dense", "pointwise_planar", "transpose", "conv2d", "winograd_conv2d")
    return [next((kind for kind in kinds if name.startswith(kind)), name) for name in names]


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "padding on the dictionary": (
        lambda: nn.Sequential(
            nn.Conv2d(64, 32, 1, padding=1, bias=False), _sparse(nn.Conv2d(32, 96, 3), 0.05), nn.BatchNorm2d(96),
            nn.ReLU(),
        ),
        (1, 64, 14, 14), {"0": "pointwise_planar", "1": "lookup_conv2d"},
    ),
    "padding on both, biases on both": (
        lambda: nn.Sequential(
            nn.Conv2d(64, 32, 1, padding=1), _sparse(nn.Conv2d(32, 96, 3, padding=1, bias=False), 0.05), nn.ReLU()
        ),
        (2, 64, 14, 14), {"0": "conv2d", "1": "lookup_conv2d"},
    ),
    "stride and groups, no dictionary": (
        lambda: _sparse(nn.Conv2d(64, 96, 3, stride=2, padding=1, groups=2), 0.1),
        (1, 64, 28, 28), {"": "lookup_conv2d"},
    ),
    "dilation, asymmetric": (
        lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), _sparse(nn.Conv2d(64, 64, 3, dilation=2), 0.05)),
        (1, 64, 20, 20), {"1": "lookup_conv2d"},
    ),
    "kernel as large as the plane": (
        lambda: nn.Sequential(
            nn.Conv2d(32, 64, 1, bias=False), _sparse(nn.Conv2d(64, 256, 6), 0.01), nn.ReLU(),
            nn.Conv2d(256, 64, 1, bias=False), _sparse(nn.Conv2d(64, 256, 1), 0.02), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, 10),
        ),
        (1, 32, 6, 6), {"1": "lookup_dense"},
    ),
    "linear": (
        lambda: nn.Sequential(_sparse(nn.Linear(2000, 1000), 0.01), nn.ReLU(), nn.Linear(1000, 10)),
        (3, 2000), {"0": "lookup_dense"},
    ),
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("name", MODELS)
def test_sparse_layers_run_as_lookups(name: str) -> None:
    make, shape, ops = MODELS[name]
    model = make()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            norm.running_mean.normal_()
    x = torch.randn(shape)
    _compiled(model, x)
    found = {layer.name: layer for layer in choices(model, (x,), ZEN_4).layers}
    for layer, op in ops.items():
        report = found[layer] if layer else next(iter(found.values()))
        assert report.op == op
        assert report.method == ("lookup" if op != "conv2d" else report.method)


@pytest.mark.native
@pytest.mark.parametrize("behind_lookups", [False, True])
def test_a_shared_dictionary_is_computed_once(behind_lookups: bool) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            before = nn.Conv2d(64, 64, 3, padding=1)
            self.before = _sparse(before, 0.05) if behind_lookups else nn.Identity()
            self.atoms = nn.Conv2d(64, 32, 1, bias=False)
            self.first = _sparse(nn.Conv2d(32, 64, 3, padding=1), 0.05)
            self.second = _sparse(nn.Conv2d(32, 64, 5, padding=2), 0.05)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            atoms = self.atoms(self.before(x))
            return self.first(atoms) + self.second(atoms)

    model, x = Shared(), torch.randn(1, 64, 14, 14)
    _compiled(model, x)
    functions = _functions(model, x)
    assert functions.count("lookup_conv2d") == 2 + behind_lookups
    assert sum(name in ("conv2d", "pointwise_planar") for name in functions) == 1


def test_a_dictionary_that_is_read_elsewhere_stays() -> None:
    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.atoms = nn.Conv2d(64, 32, 1, bias=False)
            self.sparse = _sparse(nn.Conv2d(32, 64, 3, padding=1), 0.05)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            atoms = self.atoms(x)
            return self.sparse(atoms), atoms

    model, x = Tapped().eval(), torch.randn(1, 64, 14, 14)
    compiled = fc.compile(model, (x,))
    for got, want in zip(compiled(x), model(x), strict=True):
        assert_close(got, want, TOLERANCE)
    assert next(layer for layer in compiled.layers if layer.name == "atoms").method == "dense"
    assert sum(name in ("conv2d", "pointwise_planar") for name in _functions(model, x)) == 1


@pytest.mark.native
def test_between_lookups_there_are_only_planes() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = (nn.Conv2d(64, 32, 1, bias=False), _sparse(nn.Conv2d(32, 64, 3, padding=1), 0.05))
            self.conv = nn.Sequential(*parts)
            self.norm = nn.BatchNorm2d(64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.conv(x)) + x)

    model, x = nn.Sequential(Block(), Block(), Block()), torch.randn(1, 64, 28, 28)
    _compiled(model, x)
    assert _functions(model, x) == ["pointwise_planar", "lookup_conv2d"] * 3


def test_what_is_faster_dense_stays_dense_and_says_why() -> None:
    model, x = _sparse(nn.Conv2d(64, 64, 3, padding=1), 0.5), torch.randn(1, 64, 14, 14)
    _compiled(model, x)
    (layer,) = choices(model, (x,), ZEN_4).layers
    assert (layer.method, layer.op) == ("lookup", "winograd_conv2d")
    assert layer.reason.startswith("dense: 50 % of the weights are not 0; lookups would take ")


def test_a_large_dictionary_is_multiplied_out() -> None:
    model = nn.Sequential(
        nn.Conv2d(16, 256, 1, bias=False, padding=1), _sparse(nn.Conv2d(256, 64, 3, padding=1), 0.5)
    )
    x = torch.randn(1, 16, 14, 14)
    _compiled(model, x)
    (layer,) = choices(model, (x,), ZEN_4).layers
    assert (layer.name, layer.method) == ("1", "lookup")
    assert layer.reason.startswith("dense(reconstructed)")


def test_dense_weights_are_no_lookups() -> None:
    compiled = _compiled(nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 14, 14))
    assert compiled.layers[0].method == "dense"


def test_methods_decide() -> None:
    x = torch.randn(1, 64, 14, 14)
    dense = _compiled(_sparse(nn.Conv2d(64, 64, 3), 0.02), x, fc.Dense())
    assert (dense.layers[0].method, dense.layers[0].op) != ("lookup", "lookup_conv2d")
    forced = _compiled(_sparse(nn.Conv2d(64, 64, 3), 0.9), x, fc.Lookup())
    assert (forced.layers[0].method, forced.layers[0].op) == ("lookup", "lookup_conv2d")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Conv2d(64, 64, 3), "none of its weights is 0"),
        (lambda: _sparse(nn.Conv2d(64, 64, 3), 0.0), "all of its weights are 0"),
        (lambda: _sparse(nn.Conv2d(64, 64, 3, groups=64), 0.5), "it is depthwise"),
        (lambda: _sparse(nn.ConvTranspose2d(64, 32, 3), 0.05), "it is a transposed convolution"),
    ],
)
@pytest.mark.parametrize("methods", [fc.Lookup(), {"0": fc.Lookup()}])
def test_what_cannot_become_lookups_is_said(make: Callable, why: str, methods: object) -> None:
    with pytest.raises(fc.MethodError, match=f"layer '0' cannot become lookups: {why}"):
        fc.compile(nn.Sequential(make()).eval(), (torch.randn(1, 64, 14, 14),), methods=methods)


def test_a_dictionary_counts_as_lookups() -> None:
    model = nn.Sequential(nn.Conv2d(64, 32, 1, bias=False), _sparse(nn.Conv2d(32, 96, 3), 0.9))
    compiled = _compiled(model, torch.randn(1, 64, 14, 14), fc.Lookup())
    assert [layer.method for layer in compiled.layers] == ["lookup", "lookup"]
    assert compiled.layers[-1].op == "lookup_conv2d"


def test_a_binary_layer_asked_for_runs_as_lookups() -> None:
    class Ternary(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.where(x >= 0, 1.0, -1.0))

    layer = _sparse(Ternary(64, 64, 3), 0.1)
    layer.weight.data.sign_()
    (report,) = _compiled(layer, torch.randn(1, 64, 14, 14), fc.Lookup()).layers
    assert report.op == "lookup_conv2d"


def test_a_layer_approximated_on_request_runs_as_lookups() -> None:
    model, x = nn.Conv2d(64, 128, 3, padding=1).eval(), torch.randn(1, 64, 28, 28)
    compiled = fc.compile(model, (x,), methods=fc.Lookup(dictionary_size=32, density=0.05))
    found = {layer.name: layer for layer in compiled.layers}
    (sparse,) = [layer for name, layer in found.items() if not name.endswith(".dictionary")]
    assert sparse.op == "lookup_conv2d"
    assert sparse.reason.startswith("approximated: 32 atoms")


@pytest.mark.native
@pytest.mark.parametrize("shape", [(3, 4, 256), (1, 4, 4, 256), (2, 3, 2, 256)])
def test_linear_layers_on_any_rank(shape: tuple[int, ...]) -> None:
    compiled = _compiled(_sparse(nn.Linear(256, 500), 0.01), torch.randn(shape), fc.Lookup())
    assert compiled.layers[0].op == "lookup_dense"


def test_rows_of_an_unknown_number_stay_dense() -> None:
    model = _sparse(nn.Linear(256, 500), 0.01).eval()
    dims = ({0: torch.export.Dim("n", min=1, max=8)},)
    compiled = fc.compile(torch.export.export(model, (torch.randn(2, 4, 256),), dynamic_shapes=dims))
    for n in (1, 5):
        x = torch.randn(n, 4, 256)
        assert_close(compiled(x), model(x), TOLERANCE)


@pytest.mark.native
@pytest.mark.parametrize("outputs", [3, 15, 17])
def test_groups_that_fill_no_vectors(outputs: int) -> None:
    _compiled(_sparse(nn.Conv2d(16, 2 * outputs, 3, groups=2, padding=1), 0.05), torch.randn(1, 16, 14, 14))


def test_several_rows_read_dense_weights_once() -> None:
    model, x = _sparse(nn.Linear(2048, 1024), 0.1), torch.randn(4, 2048)
    _compiled(model, x)
    assert choices(model, (x,), ZEN_4).layers[0].op == "dense"


def test_a_dictionary_kept_dense() -> None:
    parts = (nn.Conv2d(32, 16, 1, bias=False), _sparse(nn.Conv2d(16, 64, 3, padding=1), 0.05))
    model, x, methods = nn.Sequential(*parts), torch.randn(1, 32, 28, 28), {"0": fc.Dense()}
    _compiled(model, x, methods)
    assert [(layer.method, layer.op) for layer in choices(model, (x,), ZEN_4, methods).layers] == [
        ("dense", "conv2d"),
        ("lookup", "lookup_conv2d"),
    ]


def test_no_coefficients_at_all() -> None:
    model = nn.Sequential(_sparse(nn.Conv2d(8, 8, 3), 0.0), nn.ReLU()).eval()
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(fc.compile(model, (x,))(x), model(x))


@pytest.mark.native
def test_dynamic_batch() -> None:
    parts = (nn.Conv2d(64, 32, 1, bias=False), _sparse(nn.Conv2d(32, 64, 3, padding=1), 0.05))
    tail = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), _sparse(nn.Linear(64, 40), 0.05))
    model = nn.Sequential(*parts, *tail).eval()
    batch = torch.export.Dim("n", min=1, max=8)
    example = torch.randn(2, 64, 14, 14)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    compiled = fc.compile(program)
    for n in (1, 5):
        x = torch.randn(n, 64, 14, 14)
        assert_close(compiled(x), model(x), TOLERANCE)


@pytest.mark.parametrize("cpu", ["x86-64-v2", "haswell"])
def test_other_processors(cpu: str) -> None:
    parts = (nn.Conv2d(64, 32, 1, bias=False), _sparse(nn.Conv2d(32, 64, 3, padding=1), 0.05), nn.Flatten())
    model = nn.Sequential(*parts, _sparse(nn.Linear(64 * 14 * 14, 40), 0.01)).eval()
    x = torch.randn(1, 64, 14, 14)
    assert_close(fc.compile(model, (x,), target=f"x86_64-linux-gnu -mcpu={cpu}")(x), model(x), TOLERANCE)
