"""A network as tuning sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm_fastconv.topi.planner import Records

from .candidate import Task


@dataclass(frozen=True)
class Dispatched:
    """What a planner made of a network.

    Attributes
    ----------
    calls : Counter
        The tasks that run, and how often.
    compared : sequence of Task
        All that the planner was asked, those that run among them.
    footprint : int
        Bytes that the network touches in one run: weights, and results of its functions.
    """

    calls: Counter[Task]
    compared: Sequence[Task]
    footprint: int


class Network(Protocol):
    """What is tuned."""

    def dispatched(self, records: Records) -> Dispatched:
        """What runs under ``records``."""
