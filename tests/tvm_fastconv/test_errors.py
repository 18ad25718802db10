import pytest

from tvm_fastconv.errors import quoted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no dim 7\n"), "no dim 7"),
        (ValueError("no dim 7,\nallowed: 0 to 3\n\nOriginal traceback:\n..."), "no dim 7,\nallowed: 0 to 3"),
        (ValueError("7" * 100_000), "7" * 400),
        (ValueError(), "ValueError"),
    ],
)
def test_what_is_quoted_of_an_error(error: Exception, said: str) -> None:
    assert quoted(error) == said
