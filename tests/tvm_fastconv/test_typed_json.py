from dataclasses import dataclass
from typing import Annotated

import pytest

from tvm_fastconv.typed_json import AtMost, from_json, to_json


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int | str, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float
    inner: tuple[Inner, ...]
    maybe: Inner | None
    error: float | None = None


FULL = Outer("a", 0.5, (Inner((1, "n")), Inner(())), Inner((2,)), 1e-6)


@pytest.mark.parametrize("record", [FULL, Outer("", 2.0, (), None)])
def test_round_trip(record):
    assert from_json(Outer, to_json(record), "outer") == record


def test_whole_numbers_are_floats_where_floats_are_wanted():
    assert from_json(Outer, to_json(FULL) | {"ratio": 2, "error": 3}, "outer") == Outer(
        "a", 2.0, FULL.inner, FULL.maybe, 3.0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, r"outer\.name is 1; expected str"),
        ({"ratio": "1"}, r"outer\.ratio is '1'; expected float"),
        ({"ratio": True}, r"outer\.ratio is True; expected float"),
        ({"inner": {}}, r"outer\.inner is \{\}; expected a list"),
        ({"inner": [3]}, r"outer\.inner\[0\] is 3; expected an object"),
        ({"inner": [{"sizes": [1, True]}]}, r"outer\.inner\[0\]\.sizes\[1\] is True; expected int or str"),
        ({"inner": [{"sizes": [None]}]}, r"sizes\[0\] is None"),
        ({"maybe": []}, r"outer\.maybe is \[\]; expected an object"),
        ({"error": "x"}, r"outer\.error is 'x'"),
        ({"extra": 1}, r"outer\.extra is unknown; known: name, ratio, inner, maybe, error"),
    ],
)
def test_wrong_field_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(Outer, to_json(FULL) | change, "outer")


def test_missing_field_is_named():
    with pytest.raises(ValueError, match=r"outer\.inner is missing"):
        from_json(Outer, {"name": "a", "ratio": 1.0, "maybe": None}, "outer")


def test_a_long_list_is_refused_before_any_of_it_is_read(monkeypatch):
    made = []

    @dataclass(frozen=True)
    class Item:
        value: int

        def __post_init__(self):
            made.append(self)

    @dataclass(frozen=True)
    class Limited:
        items: Annotated[tuple[Item, ...], AtMost(3)]

    assert len(from_json(Limited, {"items": [{"value": 1}] * 3}, "limited").items) == len(made) == 3
    with pytest.raises(ValueError, match=r"^limited\.items has 4 items; allowed: up to 3$"):
        from_json(Limited, {"items": [{"value": 1}] * 4}, "limited")
    assert len(made) == 3
