"""The end of tuning: the fastest knobs of every task against its default, in turns, in the network itself if possible.

Alone, an operator finds its weights and planes in caches; in a network they come from further away. A depthwise layer
of 1.6 MB takes 71 µs alone and 154 in a network (Zen 4), so that neither knobs nor whole operators can be chosen by
what they take alone. So the network is compiled with the first choice of every task, the second, and so on, and with
each operator that competes with others preferred and avoided; all of them run in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Measured, Records

from .candidate import Task
from .comparison import Ratio, paired_ratio
from .network import Network, Times

FINAL_TURNS = 15
LEAST_RATIO = 1.01
"""By which the lower end of the interval must beat the default."""

COMPETING = (
    "chain", "winograd_conv2d", "grouped_conv2d", "bitserial_conv2d", "int8_conv2d", "lookup_conv2d", "lookup_dense",
)  # fmt: skip
"""Operators that the planner chooses over others, or others over them."""

PREFERRED, AVOIDED = 1e-6, 1e6
"""Times their cycles, to have an operator run wherever it can, or nowhere."""


@dataclass(frozen=True)
class Contest:
    """Knobs of one task that are to be compared.

    Attributes
    ----------
    rivals : sequence of KnobSet
        That were faster than the default, the fastest first.
    seconds : float
        Of the default alone.
    """

    task: Task
    machine: Machine
    default: KnobSet
    rivals: Sequence[KnobSet]
    seconds: float

    def decide(self, times: Sequence[Sequence[float]]) -> Decision:
        """Who wins by ``times``, the default's first: who beats it by more than the noise, else the default."""
        ratios = [paired_ratio(times[0], each) for each in times[1:]]
        best = max(range(len(ratios)), key=lambda place: ratios[place].median, default=None)
        default = statistics.median(times[0])
        if best is None or ratios[best].low < LEAST_RATIO:
            return Decision(self.task, self.default, Ratio(1.0, 1.0, 1.0), default, default)
        seconds = statistics.median(times[1 + best])
        return Decision(self.task, self.rivals[best], ratios[best], seconds, default)


@dataclass(frozen=True)
class Decision:
    """Who has won."""

    task: Task
    knobs: KnobSet
    ratio: Ratio
    seconds: float
    default_seconds: float


def decided_in_network(network: Network, contests: Sequence[Contest]) -> list[Decision]:
    """By the times that operators take in the network; nothing where it cannot run.

    What runs in no variant, since another operator is possible wherever it is, keeps its default and the time that it
    took alone.
    """
    rounds = 1 + max((len(contest.rivals) for contest in contests), default=0)
    present = {contest.task.op for contest in contests} & set(COMPETING)
    variants = [_records(contests, place) for place in range(rounds)]
    variants += [_records(contests, 0, op, by) for op in sorted(present) for by in (PREFERRED, AVOIDED)]
    found = network.timed(variants, FINAL_TURNS)
    if not found:
        return []
    forced = {task: seconds for times in found[rounds:] for task, seconds in times.items()}
    return [_decision(contest, found[:rounds], forced) for contest in contests]


def _decision(contest: Contest, found: Sequence[Times], forced: Times) -> Decision:
    task, count = contest.task, 1 + len(contest.rivals)
    if all(task in times for times in found[:count]):
        return contest.decide([times[task] for times in found[:count]])
    return contest.decide([forced.get(task, [contest.seconds] * FINAL_TURNS)])


def _records(
    contests: Sequence[Contest], place: int, op: str | None = None, factor: float = 1.0
) -> Mapping[tuple[str, str], Measured]:
    """Every task with its knobs of ``place``; what is compared are the defaults' estimates, those of ``op`` changed."""
    found: Records = {
        contest.task.key: Measured(
            [contest.default, *contest.rivals][min(place, len(contest.rivals))].to_json(),
            contest.default.cycles(contest.task.problem, contest.machine)
            * (factor if contest.task.op == op else 1.0),
        )
        for contest in contests
    }
    return found
