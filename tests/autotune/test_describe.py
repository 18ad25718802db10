"""Problems in a few words."""

import pytest

from tvm_fastconv.autotune.describe import describe

from ..topi.operator_cases import CASES
from .fake import task


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conv2d", "9x11, 24 to 40, 3x3"),
        ("conv2d, odd", "2 of 9x11, 24 to 17, 3x3 / (2, 1)"),
        ("grouped_conv2d", "9x11, 24 to 36, 3x3, 4 groups"),
        ("dense", "2 of columns 21, inner 50, rows 3"),
        ("bitserial_conv2d", "9x11, 70 to 40, 3x3"),
        ("max_pool2d", "9x11, 24, 3x3"),
    ],
)
def test_words(name: str, words: str) -> None:
    assert describe(task(name)) == words


def test_chains_are_their_stages() -> None:
    assert describe(task("chain, multiplier")) == "16x16, 40 to 80, 3x3, 40 groups + 16x16, 80 to 24, 1x1"


def test_every_problem_has_some() -> None:
    for name in CASES:
        assert 3 < len(describe(task(name))) < 200
