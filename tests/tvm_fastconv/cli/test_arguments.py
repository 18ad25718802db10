import pytest

from tvm_fastconv.cli.arguments import parse_shape
from tvm_fastconv.errors import InputError


@pytest.mark.parametrize(("text", "shape"), [("1x3x224x224", (1, 3, 224, 224)), ("7", (7,)), ("2X5", (2, 5))])
def test_shapes(text: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "1x", "0x3", "1x-3", "1,3", "ax3", "1x3.5"])
def test_bad_shapes(text: str) -> None:
    with pytest.raises(InputError, match="such as 1x3x224x224"):
        parse_shape(text)
