"""One task of a network, and what its next batch of trials is expected to save."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .search import Search

FIRST_GAIN, STALLED_GAIN, FADING = 0.2, 0.1, 0.55
"""What a task's next batch is expected to save of its time: at first, and ever less after batches without gain."""

LEAST_GAIN = 0.004
"""Of a task's time; what is expected to save less is not searched any further."""


@dataclass
class TaskState:
    """A task and how far its search is.

    Attributes
    ----------
    calls : int
        Of the network; 0 of a task that was compared with one that runs.
    batches, stalled : int
        So far, and those since the last that saved anything.
    gain : float
        What the last batch saved of the time.
    """

    search: Search
    calls: int = 0
    batches: int = 0
    stalled: int = 0
    gain: float = 0.0

    @property
    def default_seconds(self) -> float:
        """Of the default knobs; infinite where they failed or were not timed yet."""
        return self.search.times.get(self.search.default, math.inf)

    @property
    def expected_gain(self) -> float:
        """What the next batch is expected to save of the task's time; 0 where it is not worth a trial."""
        if self.search.exhausted or not self.calls:
            return 0.0
        expected = FIRST_GAIN if not self.batches else 0.5 * self.gain + STALLED_GAIN * FADING**self.stalled
        return 0.0 if expected < LEAST_GAIN else expected

    @property
    def saving(self) -> float:
        """Seconds of the network that the next batch is expected to save."""
        return self.expected_gain and self.expected_gain * self.calls * self.search.seconds

    def note_batch(self, gain: float) -> None:
        """A batch has saved ``gain`` of the time, 0 if that is not known yet."""
        self.batches += 1
        self.gain = gain
        self.stalled = 0 if gain > LEAST_GAIN else self.stalled + 1
