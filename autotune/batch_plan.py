"""What a batch for a far device holds, and what is made of its results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .batch_files import Result
from .candidate import Candidate, Group, Outcome
from .contest import TURNS, decide
from .local_runner import TRIAL_TURNS
from .record_sets import parse_candidate
from .records import Verdict
from .tasks import BATCH, Tasks


def plan_batch(tasks: Tasks, trials: int) -> list[Group]:
    """The contests that can be held by now, and up to ``trials`` candidates that were not tried.

    Empty where all is decided and nothing is worth a trial.
    """
    tasks.dispatch()
    candidates = tasks.propose_defaults(trials)
    while len(candidates) < trials:
        state = max(tasks.states.values(), key=lambda state: state.saving, default=None)
        if state is None or not state.saving:
            break
        candidates += tasks.propose(state, min(BATCH, trials - len(candidates)))
        state.note_batch(state.search.seconds)
    return [*_contests(tasks), *(Group((candidate,), TRIAL_TURNS) for candidate in candidates)]


def _contests(tasks: Tasks) -> Iterator[Group]:
    """Of tasks without a verdict, and of those that have found faster knobs by trials since."""
    for task, state in tasks.states.items():
        finalists = tasks.finalists(state)
        verdict = tasks.verdicts.get(task.key)
        best = finalists[min(1, len(finalists) - 1)].knobs.to_json()
        fresh = verdict is None or (task.key in tasks.undecided and verdict.knobs != best)
        if state.default_seconds < math.inf and fresh:
            yield Group(tuple(finalists), TURNS, tasks.footprint)


@dataclass(frozen=True)
class Taken:
    """What came of a batch's results.

    Attributes
    ----------
    trials : int
        Candidates that were tried.
    verdicts : list of Verdict
        What contests ended with.
    known : int
        Results that were known already.
    alien : int
        Results that this network does not ask for.
    """

    trials: int
    verdicts: list[Verdict]
    known: int
    alien: int


def take_results(tasks: Tasks, results: Iterable[Result]) -> Taken:
    """Learn from a batch's results, which are on the disk before this returns."""
    tried: dict[Candidate, Outcome] = {}
    contests: list[tuple[Result, list[Candidate]]] = []
    known = alien = 0
    for result in results:
        candidates = _candidates(tasks, result)
        if not candidates:
            alien += 1
        elif not result.contest and _is_known(tasks, candidates[0]):
            known += 1
        elif result.contest:
            contests.append((result, candidates))
        else:
            seconds = min(result.times[0]) if result.error is None else None
            tried[candidates[0]] = Outcome(seconds, result.error)
    tasks.observe(list(tried), list(tried.values()))
    tasks.dispatch()
    verdicts = [_judge(tasks, result, candidates) for result, candidates in contests]
    kept = [verdict for verdict in verdicts if verdict is not None]
    return Taken(len(tried), kept, known + len(verdicts) - len(kept), alien)


def _candidates(tasks: Tasks, result: Result) -> list[Candidate]:
    """What a result is of, each once and legal; nothing where this network asks something else."""
    kind = tasks.device.machine.kind
    found = [parse_candidate(result.op, result.problem, knobs, kind) for knobs in dict.fromkeys(result.knobs)]
    legal = [
        c for c in found if c and c.task in tasks.states and c.knobs in tasks.states[c.task].search.space
    ]
    return legal if len(legal) == len(result.knobs) else []


def _is_known(tasks: Tasks, candidate: Candidate) -> bool:
    return candidate.knobs in tasks.states[candidate.task].search.times


def _judge(tasks: Tasks, result: Result, candidates: list[Candidate]) -> Verdict | None:
    """What a contest ended with; the default stays where it failed.

    ``None`` where it is none, since the default is missing, or where it is known already.
    """
    task, knobs = candidates[0].task, [candidate.knobs for candidate in candidates]
    state = tasks.states[task]
    held = result.error is None and len(result.times[0]) == TURNS
    if knobs[0] != state.search.default or not (held or state.default_seconds < math.inf):
        return None
    decision = decide(knobs, result.times if held else [[state.default_seconds] * TURNS])
    known = tasks.verdicts.get(task.key)
    if known is not None and (known.seconds, known.default_seconds) == (
        decision.seconds,
        decision.default_seconds,
    ):
        return None
    return tasks.judge(task, decision)
