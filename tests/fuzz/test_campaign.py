import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tvm_fastconv.errors import ModelError

from .campaign import campaign, case_of
from .generator import Generator


class Numbers(Generator):
    """Numbers up to 9; ``ends`` says what happens from 5 on."""

    name = "numbers"
    limit = 1.0

    def __init__(self, ends: str) -> None:
        self.ends = ends

    def case(self, rng: random.Random) -> int:
        return rng.randrange(10)

    def run(self, case: int) -> str | None:
        if case >= 5 and self.ends == "refused":
            raise ModelError("5 and more are not supported")
        if case >= 5 and self.ends == "killed":
            os.kill(os.getpid(), signal.SIGSEGV)
        if case >= 5 and self.ends == "raised":
            raise IndexError(case)
        if case >= 5 and self.ends == "hung":
            time.sleep(60)
        return f"{case} is wrong" if case >= 5 and self.ends == "wrong" else None

    def smaller(self, case: int) -> Iterator[int]:
        yield from range(case)

    def code(self, case: int) -> str:
        return f"print({case})"


def _first_from_five(generator: Numbers) -> int:
    return next(index for index in range(100) if case_of(generator, 0, index) >= 5)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("wrong", "5 is wrong"),
        ("raised", "IndexError: 5"),
        ("killed", "died of SIGSEGV"),
        ("hung", "still running after 1 s"),
    ],
)
def test_a_failure_is_made_smaller_and_said(ends: str, said: str) -> None:
    generator, lines = Numbers(ends), []
    tally = campaign(generator, 0, 0.01, lines.append, _first_from_five(generator))
    assert tally.failed >= 1
    assert said in lines[1]
    assert "print(5)" in lines[1]


def test_a_refusal_is_counted_apart() -> None:
    generator, lines = Numbers("refused"), []
    tally = campaign(generator, 0, 0.5, lines.append)
    assert (tally.failed, lines) == (0, [])
    assert tally.refusals["5 and more are not supported"] == tally.refused > 0
    assert tally.clean > 0


def test_a_case_depends_on_its_seed_and_number_only() -> None:
    cases = [case_of(Numbers("wrong"), 0, index) for index in range(20)]
    assert cases == [case_of(Numbers("wrong"), 0, index) for index in range(20)]
    assert cases != [case_of(Numbers("wrong"), 1, index) for index in range(20)]
