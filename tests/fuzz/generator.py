"""What a generator of cases is, and what running one of them can end in."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """How one case ended; ``text`` says why it was refused or what is wrong."""

    kind: Literal["clean", "refused", "failed"]
    text: str = ""


class Generator(ABC):
    """Makes cases of one kind, runs them, and makes them smaller.

    Cases are pickled to a process that runs them, so that a crash or a hang is one more failure. All that is random in
    a case comes from ``rng`` and stands in the case: the same case ends the same way again.
    """

    name: str
    """What ``--what`` calls it."""

    parts: int = 1
    """How many things one case consists of; the tally counts them."""

    limit: float = 120.0
    """Seconds of computing after which a case hangs."""

    @abstractmethod
    def case(self, rng: random.Random) -> Any:
        """Make a case."""

    @abstractmethod
    def run(self, case: Any) -> str | None:
        """Return what is wrong, or ``None``. A ``FastconvError`` refuses the case; any other exception is a failure."""

    def smaller(self, case: Any) -> Iterator[Any]:
        """Yield cases that are simpler than this one, the simplest first; of a failing case the first that fails."""
        return iter(())

    @abstractmethod
    def code(self, case: Any) -> str:
        """Return a program that shows the failure, without anything of ``tests``."""
