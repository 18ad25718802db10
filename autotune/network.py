"""A network as tuning sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from tvm_fastconv.topi.planner import Records

from .candidate import Task

Times = Mapping[Task, Sequence[float]]
"""Seconds of a call in each turn."""


class Network(Protocol):
    """What is tuned."""

    def dispatched(self, records: Records) -> tuple[Counter[Task], Sequence[Task]]:
        """The tasks that run and how often, and all that the planner compared, under ``records``."""

    def timed(self, variants: Sequence[Records], turns: int) -> Sequence[Times]:
        """The whole network under each of ``variants``, in turns; none where it cannot run."""
