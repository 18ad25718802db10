import pytest

import tvm_fastconv as fc


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"dictionary_size": 64, "density": 0.05},
        {"dictionary_size": 1, "density": 1},
        {"dictionary_size": 9, "error": 0.3},
    ],
)
def test_lookups_that_can_be_asked_for(right: dict) -> None:
    config = fc.Lookup(**right)
    assert [getattr(config, name) for name in right] == list(right.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dictionary_size": 0, "density": 0.1}, "dictionary_size is 0; allowed: 1 or more"),
        ({"dictionary_size": True, "density": 0.1}, "dictionary_size is True; allowed: 1 or more"),
        ({"dictionary_size": 8.0, "density": 0.1}, "dictionary_size is 8.0; allowed: 1 or more"),
        ({"density": 0.1}, "dictionary_size is None with density set; allowed: 1 or more"),
        ({"error": 0.1}, "dictionary_size is None with error set; allowed: 1 or more"),
        (
            {"dictionary_size": 8},
            "density is None and error is None; allowed with a dictionary_size: one of them",
        ),
        ({"dictionary_size": 8, "density": 0.1, "error": 0.1}, "density is 0.1 and error is 0.1; allowed"),
        ({"dictionary_size": 8, "density": 0}, "density is 0; allowed: above 0, at most 1"),
        ({"dictionary_size": 8, "density": 1.1}, "density is 1.1; allowed: above 0, at most 1"),
        ({"dictionary_size": 8, "density": "0.1"}, "density is '0.1'; allowed: above 0, at most 1"),
        ({"dictionary_size": 8, "density": True}, "density is True; allowed: above 0, at most 1"),
        ({"dictionary_size": 8, "error": 1}, "error is 1; allowed: above 0, below 1"),
        ({"dictionary_size": 8, "error": float("nan")}, "error is nan; allowed: above 0, below 1"),
    ],
)
def test_lookups_that_cannot(wrong: dict, message: str) -> None:
    with pytest.raises(fc.MethodError, match=message):
        fc.Lookup(**wrong)


@pytest.mark.parametrize(
    ("method", "right"),
    [
        (fc.CP, {"rank": 96}),
        (fc.CP, {"ratio": 1}),
        (fc.CP, {"error": 0.3}),
        (fc.Tucker, {"ranks": (1, 300)}),
        (fc.Tucker, {"error": 0.01}),
        (fc.SpatialSeparable, {"rank": 2}),
        (fc.SpatialSeparable, {"error": 0.2}),
        (fc.DepthwiseSeparable, {"multiplier": 3}),
    ],
)
def test_separable_methods_that_can_be_asked_for(method: type, right: dict) -> None:
    config = method(**right)
    assert [getattr(config, name) for name in right] == list(right.values())


def test_the_plain_separable_methods() -> None:
    assert fc.SpatialSeparable() == fc.SpatialSeparable(rank=1)
    assert fc.DepthwiseSeparable() == fc.DepthwiseSeparable(multiplier=1)
    assert fc.FixedStencil() == fc.FixedStencil()


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        (fc.CP, {}, "rank is None, ratio is None and error is None; allowed: one of them"),
        (fc.CP, {"rank": 3, "error": 0.1}, "rank is 3, ratio is None and error is 0.1; allowed: one of them"),
        (fc.CP, {"rank": 0}, "rank is 0; allowed: 1 or more"),
        (fc.CP, {"ratio": 0}, "ratio is 0; allowed: above 0, at most 1"),
        (fc.CP, {"ratio": 1.5}, "ratio is 1.5; allowed: above 0, at most 1"),
        (fc.CP, {"error": 1.0}, "error is 1.0; allowed: above 0, below 1"),
        (fc.Tucker, {}, "ranks is None and error is None; allowed: one of them"),
        (fc.Tucker, {"ranks": 3}, r"ranks is 3; allowed: a pair, \(input channels, output channels\)"),
        (fc.Tucker, {"ranks": [3, 4]}, r"ranks is \[3, 4\]; allowed: a pair"),
        (fc.Tucker, {"ranks": (3, 0)}, r"ranks\[1\] is 0; allowed: 1 or more"),
        (fc.Tucker, {"error": True}, "error is True; allowed: above 0, below 1"),
        (fc.SpatialSeparable, {"rank": 1, "error": 0.1}, "rank is 1 and error is 0.1; allowed: one of them"),
        (fc.SpatialSeparable, {"rank": 1.0}, "rank is 1.0; allowed: 1 or more"),
        (fc.SpatialSeparable, {"error": 0}, "error is 0; allowed: above 0, below 1"),
        (fc.DepthwiseSeparable, {"multiplier": 0}, "multiplier is 0; allowed: 1 or more"),
    ],
)
def test_separable_methods_that_cannot(method: type, wrong: dict, message: str) -> None:
    with pytest.raises(fc.MethodError, match=message):
        method(**wrong)
