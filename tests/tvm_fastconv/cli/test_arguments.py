import pytest

from tvm_fastconv.cli.arguments import parse_shape
from tvm_fastconv.errors import InputError


@pytest.mark.parametrize(("text", "shape"), [("1x3x224x224", (1, 3, 224, 224)), ("7", (7,)), ("2X5", (2, 5))])
def test_shapes(text: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "1x", "0x3", "1x-3", "1,3", "ax3", "1x3.5", "1x²", "00x3"])
def test_bad_shapes(text: str) -> None:
    with pytest.raises(InputError, match="such as 1x3x224x224"):
        parse_shape(text)


@pytest.mark.parametrize(
    "text",
    ["1x1x8x999999999999", "1x3x16384x16384", "x".join("1" * 70), "9" * 5000],
    ids=["long size", "elements", "axes", "digits"],
)
def test_shapes_that_are_too_large(text: str) -> None:
    with pytest.raises(InputError, match="too large; allowed: up to 8 sizes, 268435456 elements in all"):
        parse_shape(text)


def test_the_largest_shape() -> None:
    assert parse_shape("1x0000000001x16384x16384") == (1, 1, 16384, 16384)
