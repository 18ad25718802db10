"""Cases of one generator until the time is over; failures are made smaller."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .generator import Generator, Outcome
from .worker import Worker

SHRINK_SECONDS = 120.0
"""What making one failure smaller may take."""


@dataclass
class Tally:
    """How many cases, or parts of them, ended how. Of a failed case the one part that fails is counted."""

    clean: int = 0
    failed: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """Cases that ended in a `FastconvError`."""
        return self.refusals.total()

    def count(self, outcome: Outcome, parts: int) -> None:
        """Add one case."""
        if outcome.kind == "refused":
            self.refusals[outcome.text] += parts
        elif outcome.kind == "clean":
            self.clean += parts
        else:
            self.failed += 1


def case_of(generator: Generator, seed: int, index: int) -> Any:
    """Make case ``index`` of a seed; it depends on nothing else."""
    return generator.case(random.Random(f"{generator.name} {seed} {index}"))


def campaign(
    generator: Generator, seed: int, seconds: float, say: Callable[[str], None], first: int = 0
) -> Tally:
    """Run cases from the ``first`` on for so many seconds, and ``say`` a program for every failure."""
    tally, index = Tally(), first
    with Worker(generator) as worker:
        worker.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            case = case_of(generator, seed, index)
            outcome = worker.run(case)
            tally.count(outcome, generator.parts)
            if outcome.kind == "failed":
                end_of_text = outcome.text.strip().splitlines()[-1]
                say(f"{generator.name}: case {index} of seed {seed} failed: {end_of_text}")
                case, outcome = smallest(generator, worker, case, outcome)
                say(f"{outcome.text.rstrip()}\n\n{generator.code(case).rstrip()}\n")
            index += 1
    return tally


def smallest(generator: Generator, worker: Worker, case: Any, outcome: Outcome) -> tuple[Any, Outcome]:
    """Return a simpler case that fails too, and how."""
    end = time.monotonic() + SHRINK_SECONDS
    candidates = generator.smaller(case)
    while time.monotonic() < end:
        simpler = next(candidates, None)
        if simpler is None:
            break
        result = worker.run(simpler)
        if result.kind == "failed":
            case, outcome, candidates = simpler, result, generator.smaller(simpler)
    return case, outcome
