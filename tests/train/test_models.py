"""The networks: that each classifies, by every method, what its layers are called, and what presets mean."""

from typing import Any

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tests.choices import ZEN_4, choices
from tvm_fastconv.train.layers import BinaryConv2d
from tvm_fastconv.train.models import MODELS, PRESETS, make_model, preset_methods
from tvm_fastconv.train.models.all_cnn import FORMS, PLANS, AllCnn, form_methods
from tvm_fastconv.train.models.resnet import ResNet

SMALL: dict[str, dict[str, Any]] = {
    "digits_net": {"size": 8, "width": 8},
    "lenet5": {"size": 28},
    "alexnet": {"size": 224, "width": 0.13},
    "all_cnn_c": {"size": 16, "width": 0.1},
    "wider_all_cnn": {"size": 16, "width": 0.1},
    "adequately_designed": {"size": 16, "width": 0.1},
    "fxnn": {"size": 12, "width": 8},
    "binary_mlp": {"size": 12, "hidden": 32},
    "binary_conv_net": {"size": 12, "width": 8, "hidden": 32},
    "resnet18": {"size": 16, "width": 0.1},
    "resnet34": {"size": 16, "width": 0.1},
    "bireal18": {"size": 16, "width": 0.1},
    "bireal34": {"size": 16, "width": 0.1},
    "mobilenet_v1": {"size": 16, "width": 0.25},
}
"""Every network, as small as it can be."""


def _make(name: str, methods: Any = None) -> tuple[nn.Module, torch.Tensor]:
    options = {"classes": 7, "channels": 2, **SMALL[name]}
    return make_model(name, methods=methods, **options), torch.randn(3, 2, options["size"], options["size"])


def test_all_of_them_are_here() -> None:
    assert SMALL.keys() == MODELS.keys()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_network_classifies_and_trains_with_every_preset(name: str, preset: str) -> None:
    binary_only = name in ("binary_mlp", "mobilenet_v1")
    if binary_only and preset not in ("dense", "binary", "2-bit"):
        with pytest.raises(fc.MethodError, match=f"no inner layer that '{preset}' is for"):
            _make(name, preset)
        return
    if name == "alexnet" and preset == "lcnn-accurate":
        preset = "lcnn-fast"  # the same but for sizes, and faster
    model, images = _make(name, preset)
    assert model.training
    scores = model(images)
    assert scores.shape == (3, 7)
    nn.functional.cross_entropy(scores, torch.tensor([0, 3, 6])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "alexnet"])
def test_the_compiler_knows_the_methods(name: str) -> None:
    model, images = _make(name, "binary")
    found = choices(model.eval(), (images[:1],), ZEN_4).layers
    wanted = preset_methods("binary", _make(name)[0])
    assert {layer.name: layer.method for layer in found if layer.name in wanted} == dict.fromkeys(
        wanted, "bitserial"
    )


@pytest.mark.parametrize(
    ("name", "top"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("mobilenet_v1", 4_231_976)]
)
def test_they_have_the_parameters_of_the_papers(name: str, top: int) -> None:
    with torch.device("meta"):
        model = make_model(name, classes=1000, channels=3, size=224)
    assert (
        sum(p.numel() for p in model.parameters()) == top
    )  # as torchvision and the MobileNet authors count them


@pytest.mark.parametrize(("plan", "size"), [("all_cnn_c", 32), ("wider", 32), ("adequately_designed", 32)])
def test_forms_of_all_cnn_are_what_the_notebook_has(plan: str, size: int) -> None:
    for form in FORMS:
        model = AllCnn(100, plan=plan)
        fc.compress_(model, form_methods(plan, form), fresh=True)
        kinds = [type(block.conv).__name__ for block in model if hasattr(block, "conv")]
        want = {
            "std": "Conv2d",
            "fac": "SpatialSeparableConv2d",
            "sep": "DepthwiseSeparableConv2d",
            "cp": "CPConv2d",
        }
        for number, (layer, kind) in enumerate(zip(PLANS[plan], kinds, strict=True)):
            form_of = "std" if number == 0 or layer.kernel == 1 else "sep" if layer.separable else form
            assert kind == want[form_of]
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 100)


def test_published_sizes_are_alexnets() -> None:
    with torch.device("meta"):
        model = make_model("alexnet", classes=1000, channels=3, size=224)
    fast, accurate = (preset_methods(name, model) for name in ("lcnn-fast", "lcnn-accurate"))
    assert [config.dictionary_size for config in fast.values()] == [3, 30, 30, 30, 30, 512, 512]
    assert [config.dictionary_size for config in accurate.values()] == [3, 500, 500, 500, 30, 1024, 1024]
    assert list(fast) == list(accurate) == [f"conv{number}.conv" for number in range(1, 8)]


def test_bi_real_has_a_shortcut_around_every_convolution() -> None:
    model = ResNet(10, size=32, width=0.25, bi_real=True)
    assert not any(isinstance(part, nn.ReLU) for part in model.modules())
    assert sum(hasattr(part, "shortcut") for part in model.modules()) == 16


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet", {}, "network 'lenet' is not known; known are digits_net, lenet5"),
        ("lenet5", {"size": 20}, "network 'lenet5' cannot be built so: size is 20; allowed: 28 or 32"),
        ("resnet18", {"depth": 50}, "depth is 50; allowed: 18, 34"),
        ("digits_net", {"width": "abc"}, "network 'digits_net' cannot be built so: "),
        ("digits_net", {"width": 0}, "network 'digits_net' cannot be built so: it has layers without"),
        ("all_cnn_c", {"width": "abc"}, "network 'all_cnn_c' cannot be built so: "),
        (
            "digits_net",
            {"widht": 3},
            "network 'digits_net' has no option 'widht'; it has classes, channels, width",
        ),
    ],
)
def test_what_cannot_be_built_is_said(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(fc.ModelError, match=message):
        make_model(name, **{"classes": 10, "channels": 1, "size": 28, **options})


def test_a_preset_that_is_not_known_is_said() -> None:
    with pytest.raises(fc.MethodError, match="preset 'lcnn' is not known; known are dense, lcnn-fast"):
        make_model("lenet5", classes=10, channels=1, size=28, methods="lcnn")


@pytest.mark.parametrize("preset", ["binary", "2-bit"])
def test_first_steps_fit_what_layers_get_in_training(preset: str) -> None:
    torch.manual_seed(0)
    model = make_model("all_cnn_c", classes=10, channels=1, size=28, methods=preset, width=0.25)
    steps = [part.quantize_input.step for part in model.modules() if isinstance(part, BinaryConv2d)]
    assert len(steps) == 7
    # Behind batch norms all layers get the same, of unit variance, however deep they are.
    sizes = [float(step.detach()) for step in steps]
    assert max(sizes) < 1.5 * min(sizes)
    assert 0.4 < min(sizes) < 1.5
