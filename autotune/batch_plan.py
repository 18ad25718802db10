"""What a batch for a far device holds, and what is made of its results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

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


def take_results(tasks: Tasks, results: Iterable[Result]) -> tuple[int, list[Verdict]]:
    """Learn from a batch's results, which are on the disk before this returns.

    Returns
    -------
    tuple of int and list of Verdict
        How many candidates were tried, and what contests ended with. What this network does not ask is passed over.
    """
    tried: list[tuple[Candidate, Outcome]] = []
    contests: list[tuple[Result, list[Candidate]]] = []
    for result in results:
        found = [
            parse_candidate(result.op, result.problem, knobs, tasks.device.machine.kind)
            for knobs in result.knobs
        ]
        candidates = [candidate for candidate in found if candidate and candidate.task in tasks.states]
        if not candidates or len(candidates) < len(found):
            continue
        if result.contest:
            contests.append((result, candidates))
        else:
            seconds = min(result.times[0]) if result.error is None else None
            tried.append((candidates[0], Outcome(seconds, result.error)))
    tasks.observe([candidate for candidate, _ in tried], [outcome for _, outcome in tried])
    tasks.dispatch()
    verdicts = [_judge(tasks, result, candidates) for result, candidates in contests]
    return len(tried), [verdict for verdict in verdicts if verdict is not None]


def _judge(tasks: Tasks, result: Result, candidates: list[Candidate]) -> Verdict | None:
    """What a contest ended with: the default stays where it failed; ``None`` if that was never timed."""
    task, knobs = candidates[0].task, [candidate.knobs for candidate in candidates]
    state = tasks.states[task]
    if knobs[0] != state.search.default or not state.default_seconds < math.inf:
        return None
    held = result.error is None and len(result.times[0]) == TURNS
    return tasks.judge(task, decide(knobs, result.times if held else [[state.default_seconds] * TURNS]))
