"""Settings: what is refused, and how the learning rate goes."""

from typing import Any

import pytest
from torch import nn

from tvm_fastconv.errors import TrainError
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.layers import BinaryConv2d
from tvm_fastconv.train.running import Settings
from tvm_fastconv.train.running.optimizers import make_optimizer


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs is 0; allowed: 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; allowed: above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"optimizer": "adm"}, "optimizer is 'adm'; allowed: adam, adamw, sgd"),
        ({"ema": 1.0}, "ema is 1.0; allowed: 0 or more, below 1"),
        ({"distillation": 2.0}, "distillation is 2.0; allowed: 0 to 1"),
        ({"precision": "8"}, "precision is '8'; allowed: 32-true"),
        ({"batch_size": 10, "accumulate": 2, "devices": 2}, "batch_size is 10; allowed: multiples of 4"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"reference_batch": -128}, "reference_batch is -128; allowed: 1 or more"),
        ({"seed": 1 << 40}, "seed is 1099511627776; allowed: 0 to 2147483647"),
        ({"warmup": 1e308}, r"warmup is 1e\+308; allowed: 0 to 1e6"),
    ],
)
def test_wrong_settings_are_said(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        Settings(**wrong)


def test_they_are_plain_data_and_come_back() -> None:
    settings = Settings(epochs=3, augmentation=Augmentation(crop=2, flip=True), schedule="steps")
    assert Settings.from_dict(settings.as_dict()) == settings
    assert settings.as_dict()["augmentation"] == {"crop": 2, "flip": True, "erase": 0}
    with pytest.raises(TrainError, match=r"these are no settings: .*epoch"):
        Settings.from_dict({"epoch": 3})


def test_the_learning_rate_rises_and_falls() -> None:
    cosine = Settings(learning_rate=1.0, warmup=2.0)
    rates = [cosine.rate(step, 100, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert rates[20:] == sorted(rates[20:], reverse=True)
    steps = Settings(learning_rate=1.0, schedule="steps")
    assert [steps.rate(step, 100, 10) for step in (0, 49, 50, 75)] == pytest.approx([1, 1, 0.1, 0.01])
    scaled = Settings(learning_rate=0.1, batch_size=512, reference_batch=128, schedule="constant")
    assert [scaled.rate(step, 100, 10) for step in (0, 99)] == [0.4, 0.4]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_learned_steps_move_by_their_size_and_weights_alone_decay(optimizer: str) -> None:
    model = nn.Sequential(BinaryConv2d(3, 8, 3, weight="lsq", weight_bits=2, activation="lsq"))
    made = make_optimizer(model, Settings(optimizer=optimizer, weight_decay=0.1))
    layer, of = model[0], {id(p): group for group in made.param_groups for p in group["params"]}
    assert [of[id(p)]["weight_decay"] for p in (layer.weight, layer.bias)] == [0.1, 0]
    assert [of[id(p)]["scale"] for p in (layer.weight, layer.bias)] == [1, 1]
    for step in (layer.quantize_weight.step, layer.quantize_input.step):
        assert of[id(step)]["weight_decay"] == 0
        assert of[id(step)]["scale"] == pytest.approx(float(step.detach().mean()))
    assert len(of) == len(list(model.parameters()))


def test_frozen_steps_are_left_to_themselves() -> None:
    model = BinaryConv2d(3, 8, 3, weight="lsq")
    model.quantize_weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in make_optimizer(model, Settings()).param_groups) == 2


def test_signs_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), BinaryConv2d(8, 8, 3, bias=False))
    made = make_optimizer(model, Settings(weight_decay=0.1))
    of = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert [of[id(p)] for p in (model[0].weight, model[0].bias, model[1].weight)] == [0.1, 0, 0]
