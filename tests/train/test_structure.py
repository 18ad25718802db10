"""A compressed model, written as plain data and built again from it."""

import json
from typing import Any

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.train.models import PRESETS, make_model
from tvm_fastconv.train.structure import restructure_, structure_of

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def _dense() -> nn.Module:
    return make_model("digits_net", classes=10, channels=1, size=8, width=8)


def _check(model: nn.Module) -> None:
    structure = json.loads(json.dumps(structure_of(model)))
    other = _dense()
    restructure_(other, structure)
    other.load_state_dict(model.state_dict())
    assert structure_of(other) == structure_of(model)
    assert torch.equal(other.eval()(IMAGES), model.eval()(IMAGES))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_comes_back(preset: str) -> None:
    _check(make_model("digits_net", classes=10, channels=1, size=8, width=8, methods=preset))


@pytest.mark.parametrize(
    "method",
    [
        fc.CP(error=0.5),
        fc.Tucker(error=0.5),
        fc.SpatialSeparable(error=0.6),
        fc.Lookup(dictionary_size=8, error=0.6),
    ],
)
def test_what_an_error_led_to_comes_back(method: Any) -> None:
    model = _dense()
    fc.compress_(model, {"block*": method, "classifier": fc.Bitserial(weight_bits=2)}, IMAGES)
    _check(model)


@pytest.mark.parametrize(
    "entry",
    [
        {"layer": "Conv3d"},
        {"layer": "__class__"},
        {"layer": "CPConv2d"},
        {"rank": 2},
        {"layer": "CPConv2d", "rank": 2, "more": 1},
    ],
)
def test_what_is_no_structure_is_said(entry: dict[str, Any]) -> None:
    with pytest.raises(fc.ModelError, match=r"layer 'block1\.conv' cannot be"):
        restructure_(_dense(), {"block1.conv": entry})
    with pytest.raises(fc.ModelError, match="layer 'block9' cannot be"):
        restructure_(_dense(), {"block9": {"layer": "CPConv2d", "rank": 2}})
