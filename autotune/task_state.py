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
    estimate : float
        Seconds that it takes by estimate, to go by until there is a time.
    """

    search: Search
    estimate: float
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
        seconds = self.search.seconds if self.search.seconds < math.inf else self.estimate
        return self.expected_gain * self.calls * seconds

    def note_batch(self, before: float) -> None:
        """A batch was tried, or will be, of a task that took ``before`` seconds until then."""
        self.batches += 1
        self.gain = 1 - self.search.seconds / before if before < math.inf else FIRST_GAIN
        self.stalled = 0 if self.gain > LEAST_GAIN else self.stalled + 1
