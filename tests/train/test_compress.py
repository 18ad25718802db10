"""Swapping the layers of anybody's model: which, what stays as it was, and what is said where it cannot be."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.train.compress import compress_, penalty
from tvm_fastconv.train.layers import (
    BinaryConv2d,
    BinaryLinear,
    CPConv2d,
    LookupConv2d,
    LookupLinear,
    TuckerConv2d,
)

LOOKUPS = fc.Lookup(dictionary_size=4, density=0.3)


class Net(nn.Module):
    """A stem, a residual block, a grouped convolution, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(16)
        self.inner = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.grouped = nn.Conv2d(16, 16, 3, groups=4)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        return self.classifier(self.grouped(x + self.inner(x)).mean((2, 3)))


IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_layers_are_swapped_by_the_patterns_of_compile() -> None:
    model = Net()
    stem = model.stem
    report = compress_(
        model, {"inner.*": fc.CP(rank=6), "grouped": LOOKUPS, "class*": fc.Bitserial(), "stem": fc.Dense()}
    )
    kinds = {name: type(model.get_submodule(name)) for name in ("inner.0", "grouped", "classifier")}
    assert kinds == {"inner.0": CPConv2d, "grouped": LookupConv2d, "classifier": BinaryLinear}
    assert model.stem is stem
    assert [(layer.name, layer.method) for layer in report] == [
        ("inner.0", "cp"), ("grouped", "lookup"), ("classifier", "bitserial"),
    ]  # fmt: skip
    for layer in report:
        assert layer.error == model.get_submodule(layer.name).error > 0
    model(IMAGES).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "method",
    [
        *(fc.CP(rank=6), fc.Tucker(error=0.3), fc.SpatialSeparable(), fc.DepthwiseSeparable()),
        *(fc.FixedStencil(), LOOKUPS, fc.Bitserial()),
    ],
    ids=lambda method: type(method).__name__,
)  # fmt: skip
def test_compiled_it_is_what_compile_makes_with_the_method(method: Any) -> None:
    model = Net().eval()
    methods = {"inner.0": method}
    want = fc.compile(copy.deepcopy(model), (IMAGES[:1],), methods=methods)
    compress_(model, methods)
    got = fc.compile(model, (IMAGES[:1],))
    a, b = got(IMAGES[:1]), want(IMAGES[:1])
    # 1e-5: the same factors of float32, in sums of another order
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_what_has_no_use_for_its_method_stays_and_is_reported() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 4, 2),
        nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    reasons = {layer.name: layer.reason for layer in compress_(model, fc.SpatialSeparable())}
    assert reasons == {
        "0": "",
        "1": "left as it is: its kernel is 1×1",
        "2": "left as it is: it has 8 groups",
        "3": "left as it is: it is a ConvTranspose2d",
        "5": "left as it is: it is a linear layer",
    }
    (again, *_) = compress_(model, fc.Lookup())
    assert again.reason == "left as it is: no dictionary size is asked for"


def test_parts_of_swapped_layers_are_no_layers() -> None:
    model = Net()
    compress_(model, {"inner.0": fc.CP(rank=3), "stem": LOOKUPS, "classifier": fc.Bitserial()})
    names = [layer.name for layer in compress_(model, fc.Tucker(error=0.5))]
    assert names == ["grouped"]


def test_hooks_modes_dtypes_and_frozen_parameters_stay() -> None:
    model = Net().double().eval()
    model.inner[0].weight.requires_grad_(False)
    model.stem.train()
    calls: list[str] = []
    handle = model.inner[0].register_forward_hook(lambda *_: calls.append("hook"))
    model.inner[0].register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    compress_(
        model, {"inner.0": fc.CP(rank=3), "stem": fc.Tucker(ranks=(2, 8)), "classifier": fc.Bitserial()}
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not any(parameter.requires_grad for parameter in model.inner[0].parameters())
    assert model.stem.training
    assert not model.inner[0].training
    model(IMAGES.double())
    assert calls == ["pre-hook", "hook"]
    handle.remove()
    model(IMAGES.double())
    assert calls == ["pre-hook", "hook", "pre-hook"]


def test_the_state_goes_into_a_model_that_was_swapped_alike() -> None:
    methods = {"inner.0": LOOKUPS, "stem": fc.CP(rank=4), "classifier": fc.Bitserial(weight_bits=2)}
    model, other = Net(), Net()
    for one in (model, other):
        compress_(one, methods, fresh=one is other)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(IMAGES), model.eval()(IMAGES))


class Twice(nn.Module):
    """One convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def test_a_layer_under_two_names_stays_one() -> None:
    model = Twice()
    compress_(model, fc.CP(rank=2))
    assert isinstance(model.a, CPConv2d)
    assert model.a is model.b


class Tied(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


@pytest.mark.parametrize("method", [fc.CP(rank=2), LOOKUPS, fc.Bitserial(weight_bits=2)])
def test_a_weight_that_two_layers_share_stays_one(method: Any) -> None:
    model = Tied()
    biases = [model.a.bias.detach().clone(), model.b.bias.detach().clone()]
    compress_(model, method)
    shared = dict(model.a.named_parameters())
    assert all(
        (shared[name] is parameter) != name.endswith("bias") for name, parameter in model.b.named_parameters()
    )
    found = [p for name, p in model.named_parameters() if name.endswith("bias")]
    assert all(torch.equal(a, b) for a, b in zip(found, biases, strict=True))
    if method is LOOKUPS:
        model.train()(torch.randn(1, 4, 6, 6))
        assert model.a.lookups.kept is model.b.lookups.kept


@pytest.mark.parametrize("methods", [{"a": fc.CP(rank=2)}, {"a": fc.CP(rank=2), "b": fc.CP(rank=3)}])
def test_half_of_a_shared_weight_is_not_swapped(methods: Any) -> None:
    with pytest.raises(fc.MethodError, match="layers 'a', 'b' share a weight; allowed: one config"):
        compress_(Tied(), methods)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"inner.0": fc.CP(rank=2), "grouped": fc.Lookup(dictionary_size=99, density=0.1)}, "layer 'grouped' cannot"),
        ({"inner.0": fc.CP(rank=2), "stem": fc.Bitserial(activation_bits=2)}, "layer 'stem' cannot .* calibration"),
        ({"nothing": fc.CP(rank=2)}, "matches no layer; the layers are stem, inner.0, grouped, classifier"),
        ("cp", "'cp' for layers"),
    ],
)  # fmt: skip
def test_nothing_changes_where_something_cannot_be(methods: Any, message: str) -> None:
    model = Net()
    before = dict(model.named_modules())
    with pytest.raises(fc.MethodError, match=message):
        compress_(model, methods)
    assert dict(model.named_modules()) == before


def test_a_layer_alone_holds_no_layers() -> None:
    with pytest.raises(fc.MethodError, match="the model is itself a layer, Conv2d"):
        compress_(nn.Conv2d(3, 4, 3), fc.CP(rank=2))


def test_batch_norms_behind_are_estimated_again_and_others_are_not() -> None:
    model = Net()
    for _ in range(20):
        model(torch.randn(16, 3, 12, 12))
    model.eval()
    dense = model(IMAGES)
    stem = model.stem_norm.running_mean.clone()
    batches = [(torch.randn(32, 3, 12, 12), torch.zeros(32)) for _ in range(4)]
    compress_(model, {"inner.0": fc.CP(rank=12)}, batches)
    assert torch.equal(model.stem_norm.running_mean, stem)
    assert not model.inner[1].training
    assert model.inner[1].momentum == 0.1
    with torch.no_grad():
        x = torch.cat([torch.relu(model.stem_norm(model.stem(batch))) for batch, _ in batches])
        values = model.inner[0](x)
    torch.testing.assert_close(model.inner[1].running_mean, values.mean((0, 2, 3)))
    # variances within batches: smaller than over all by the spread of four means of 4608 values
    torch.testing.assert_close(model.inner[1].running_var, values.var((0, 2, 3)), rtol=1e-2, atol=1e-6)
    assert (model(IMAGES) - dense).norm() < 0.5 * dense.norm()


def test_steps_of_activations_are_fitted_to_what_layers_get() -> None:
    model = Net().eval()
    compress_(
        model, {"inner.0": fc.Bitserial(weight_bits=2, activation_bits=2), "stem": fc.Bitserial()}, IMAGES
    )
    assert isinstance(model.inner[0], BinaryConv2d)
    assert type(model.inner[0].quantize_input).__name__ == "LsqActivations"  # behind a ReLU
    assert type(model.stem.quantize_input).__name__ == "SignedLsqActivations"
    assert not model.stem.magnitude
    assert not model.inner[0].magnitude
    assert model.stem.quantize_input.step.item() == pytest.approx(IMAGES.abs().mean().item(), rel=0.1)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([], "the calibration has no batches"),
        ([torch.zeros(0, 3, 12, 12)], "batch 0 of the calibration is a tensor of shape"),
        ([IMAGES, "images"], "batch 1 of the calibration is a str"),
        ([()], "batch 0 of the calibration is a tuple"),
    ],
)
def test_wrong_calibration_is_said(calibration: Any, message: str) -> None:
    with pytest.raises(fc.InputError, match=message):
        compress_(Net(), {"inner.0": fc.CP(rank=2)}, calibration)


def test_a_batch_without_variance_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    conv, mean = model[0], torch.randn(8)
    model[1].running_mean.copy_(mean)
    with pytest.raises(fc.InputError, match="the calibration has batches that are too small"):
        compress_(model, {"0": fc.CP(rank=2)}, [torch.randn(4, 3, 3, 3), torch.randn(1, 3, 3, 3)])
    assert model[0] is conv
    assert torch.equal(model[1].running_mean, mean)
    assert model[1].momentum == 0.1


def test_the_penalty_is_the_sum_over_layers() -> None:
    model = Net()
    assert penalty(model).item() == 0
    compress_(model, {"inner.0": LOOKUPS, "classifier": LOOKUPS})
    assert isinstance(model.classifier, LookupLinear)
    want = model.inner[0].lookups.regularization() + model.classifier.lookups.regularization()
    torch.testing.assert_close(penalty(model), want)
    penalty(model).backward()
    assert model.classifier.lookups.weight.grad is not None


def test_what_is_long_is_told() -> None:
    lines: list[str] = []
    compress_(Net(), {"inner.0": fc.CP(rank=2), "stem": fc.CP(rank=2)}, progress=lines.append)
    assert lines == ["layer 1 of 2: inner.0", "layer 2 of 2: stem"]


def test_the_public_names_are_these() -> None:
    assert fc.compress_ is compress_
    assert fc.penalty is penalty
    model = Net()
    fc.compress_(model, {"stem": fc.Tucker(ranks=(2, 4))})
    assert isinstance(model.stem, TuckerConv2d)


@pytest.mark.parametrize("shape", [(4, 5, 8, 8), (3, 8)])
def test_a_calibration_that_the_model_does_not_take_changes_nothing(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError):
        fc.compress_(model, {"2": fc.CP(rank=3)}, calibration=torch.randn(shape))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_statistics_stay_in_the_tensors_that_others_hold() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    held = dict(model.named_buffers())
    before = {name: value.clone() for name, value in held.items()}
    fc.compress_(model, {"2": fc.Bitserial()}, calibration=IMAGES, fresh=True)
    assert all(held[name] is value for name, value in model.named_buffers() if name in held)
    assert all(torch.equal(held[name], before[name]) for name in held if name.startswith("1."))


def test_attention_reads_the_weights_of_its_parts_itself_and_keeps_them() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    report = fc.compress_(model, fc.Bitserial(), calibration=torch.randn(4, 5, 8))
    assert {layer.name for layer in report} == {"linear1", "linear2"}
    assert model(torch.randn(2, 5, 8)).shape == (2, 5, 8)


@pytest.mark.parametrize("method", [fc.CP(rank=3), fc.Bitserial(), fc.Lookup(dictionary_size=4, density=0.5)])
def test_layers_may_be_called_with_a_name_as_those_of_pytorch(method: Any) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(input=self.stem(x))

    model = Named()
    (found,) = fc.compress_(model, {"conv": method}, calibration=IMAGES)
    assert found.reason == ""
    assert model(IMAGES).shape[1] == 8
