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
