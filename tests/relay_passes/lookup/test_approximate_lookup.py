import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.decompose.lookup import lookup
from tvm_fastconv.relay_passes.graph.layer_names import named_layers, with_layer_name
from tvm_fastconv.relay_passes.graph.layer_notes import notes_of
from tvm_fastconv.relay_passes.lookup.approximate_lookup import ApproximateLookup

from ...close import assert_close
from ..evaluate import evaluate

ASKED = fc.Lookup(dictionary_size=6, density=0.25)
CONVOLUTIONS = [
    {},
    {"strides": 2, "padding": (1, 0, 2, 1)},
    {"dilation": 2, "padding": 2},
    {"groups": 2, "padding": 1},
]


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _function(x: relax.Var, *calls: tuple[str, str, np.ndarray, dict]) -> tvm.IRModule:
    """``calls``, one after the other, as (operator, layer, weight, attributes)."""
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = x
            for op, name, weight, attrs in calls:
                if op == "matmul":
                    call = relax.op.matmul(y, relax.const(weight))
                else:
                    call = relax.op.nn.conv2d(
                        y, relax.const(weight), data_layout="NHWC", kernel_layout="OHWI", **attrs
                    )
                y = builder.emit(with_layer_name(call, name))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()


def _image() -> relax.Var:
    return relax.Var("x", relax.TensorType((2, 9, 11, 8), "float32"))


@pytest.mark.parametrize("attrs", CONVOLUTIONS)
def test_a_convolution_becomes_a_dictionary_and_a_sparse_one(attrs: dict) -> None:
    groups = attrs.get("groups", 1)
    weight = _weight(10, 3, 3, 8 // groups)
    before = _function(_image(), ("conv", "a.conv", weight, attrs))
    got = ApproximateLookup({"a.conv": ASKED})(before)
    found = [
        lookup(part.transpose(0, 3, 1, 2), dictionary_size=6, density=0.25)
        for part in np.split(weight, groups)
    ]
    dictionary = np.concatenate([f.dictionary for f in found])[:, None, None, :]
    coefficients = np.concatenate([f.coefficients for f in found]).transpose(0, 2, 3, 1)
    after = _function(
        _image(),
        ("conv", "a.conv.dictionary", np.ascontiguousarray(dictionary), {"groups": groups}),
        ("conv", "a.conv", np.ascontiguousarray(coefficients), attrs),
    )
    tvm.ir.assert_structural_equal(got["main"], after["main"])
    assert named_layers(got["main"]) == ["a.conv.dictionary", "a.conv"]
    rebuilt = np.concatenate([f.weight for f in found]).transpose(0, 2, 3, 1).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((2, 9, 11, 8), np.float32)
    want = evaluate(_function(_image(), ("conv", "a.conv", np.ascontiguousarray(rebuilt), attrs)), x)
    # 1e-5: sums of some 100 products in another order
    assert_close(evaluate(got, x), want, 1e-5)
    off = 100 * np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight)
    assert f"the weights are off by {off:.3g} %" in notes_of(got)["a.conv"]["approximation"]


def test_a_linear_layer_becomes_two() -> None:
    weight, x = _weight(12, 30), relax.Var("x", relax.TensorType((4, 12), "float32"))
    got = ApproximateLookup({"fc": ASKED})(_function(x, ("matmul", "fc", weight, {})))
    found = lookup(np.ascontiguousarray(weight.T)[:, :, None, None], dictionary_size=6, density=0.25)
    after = _function(
        relax.Var("x", relax.TensorType((4, 12), "float32")),
        ("matmul", "fc.dictionary", np.ascontiguousarray(found.dictionary.T), {}),
        ("matmul", "fc", np.ascontiguousarray(found.coefficients[:, :, 0, 0].T), {}),
    )
    tvm.ir.assert_structural_equal(got["main"], after["main"])
    assert named_layers(got["main"]) == ["fc.dictionary", "fc"]


@pytest.mark.parametrize("methods", [{}, {"a": fc.Lookup()}, {"a": fc.Dense()}, {"b": ASKED}])
def test_what_is_not_asked_for_stays(methods: dict) -> None:
    before = _function(_image(), ("conv", "a", _weight(10, 3, 3, 8), {}))
    tvm.ir.assert_structural_equal(ApproximateLookup(methods)(before)["main"], before["main"])


def test_what_is_sparse_enough_stays() -> None:
    weight = _weight(10, 3, 3, 8)
    weight[np.random.default_rng(1).random(weight.shape) > 0.2] = 0
    before = _function(_image(), ("conv", "a", weight, {}))
    tvm.ir.assert_structural_equal(ApproximateLookup({"a": ASKED})(before)["main"], before["main"])


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 24, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(216, 30)
    ).eval()  # fmt: skip


def test_a_model_computes_what_the_approximated_weights_do() -> None:
    model, x = _model(), torch.randn(2, 3, 8, 8)
    asked = fc.Lookup(dictionary_size=30, error=0.3)
    compiled = fc.compile(model, (x,), methods={"2": asked, "4": asked})
    report = {layer.name: layer for layer in compiled.layers}
    assert list(report) == ["0", "2.dictionary", "2", "4.dictionary", "4"]
    for name in ("2", "4"):
        assert report[name].reason.startswith("approximated: 30 atoms")
        assert "the weights are off by 29.7 % (Frobenius norm)" in report[name].reason
        weight = model.get_submodule(name).weight
        plain = weight.detach().reshape(*weight.shape, *[1] * (4 - weight.ndim)).numpy()
        found = lookup(plain, dictionary_size=30, error=0.3)
        with torch.no_grad():
            weight.copy_(torch.from_numpy(found.weight.reshape(weight.shape)))
    with torch.no_grad():
        want = model(x)
    # 1e-5: float32 sums in another order
    assert_close(compiled(x), want, 1e-5)


@pytest.mark.parametrize(
    ("layer", "asked", "message"),
    [
        (nn.Conv2d(8, 2, 3), fc.Lookup(dictionary_size=19, density=0.1), "dictionary_size is 19; allowed: 1 to 18"),
        (nn.Conv2d(8, 9, 3), fc.Lookup(dictionary_size=2, error=0.1), "a dictionary of 2 reaches .* at best"),
        (nn.ConvTranspose2d(8, 9, 3), fc.Lookup(dictionary_size=2, density=0.1), "it is a transposed convolution"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("named", [True, False])
def test_what_cannot_be_done_is_said(layer: nn.Module, asked: fc.Lookup, message: str, named: bool) -> None:
    model = nn.Sequential(layer).eval()
    with pytest.raises(fc.MethodError, match=f"layer '0' cannot become lookups: .*{message}"):
        fc.compile(model, (torch.randn(1, 8, 6, 6),), methods={"0": asked} if named else asked)
