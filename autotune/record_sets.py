"""What is done with many records at once: merged, pruned, counted, found."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tvm_fastconv.topi.operators import operator_of

from .candidate import Candidate, Task
from .describe import describe
from .features import numbers
from .records import Conditions, Line, Trial, Verdict, Withdrawal

KIND = "llvm"
"""Of targets; there is no other yet."""

LARGEST = 1 << 24
"""Of numbers in a problem or in knobs; a file may hold any, and reckoning with others takes for ever."""


@dataclass(frozen=True)
class Summary:
    """How much is known of an operator under some conditions.

    Attributes
    ----------
    problems : int
    trials, failed : int
    verdicts, faster : int
        Of those that hold, and those of them that are not the default.
    """

    op: str
    conditions: Conditions
    problems: int
    trials: int
    failed: int
    verdicts: int
    faster: int


def merged(files: Iterable[Iterable[Line]]) -> list[Line]:
    """The lines of several files in order, equal ones once: where they stood last."""
    found: dict[Line, None] = {}
    for lines in files:
        for line in lines:
            found.pop(line, None)
            found[line] = None
    return list(found)


def pruned(lines: Iterable[Line], keep_trials: bool = True) -> list[Line]:
    """Without what no longer acts: verdicts that a later one or a withdrawal has replaced, and trials that failed."""
    last: dict[tuple[tuple[str, str], Conditions], int] = {}
    kept = list(lines)
    for place, line in enumerate(kept):
        if isinstance(line, Verdict | Withdrawal):
            last[line.task, line.conditions] = place
    return [
        line
        for place, line in enumerate(kept)
        if (isinstance(line, Trial) and keep_trials and line.error is None)
        or (isinstance(line, Verdict) and last[line.task, line.conditions] == place)
    ]


def holding(lines: Iterable[Line]) -> list[Verdict]:
    """The verdicts that act, under whatever conditions."""
    return [line for line in pruned(lines, keep_trials=False) if isinstance(line, Verdict)]


def summaries(lines: Sequence[Line]) -> list[Summary]:
    """One for each operator and conditions, in alphabetic order."""
    groups: dict[tuple[str, Conditions], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.op, line.conditions].append(line)
    found = []
    for (op, conditions), group in sorted(groups.items(), key=lambda item: (str(item[0][1]), item[0][0])):
        kinds = Counter(type(line) for line in group)
        failed = sum(isinstance(line, Trial) and line.error is not None for line in group)
        acting = holding(group)
        faster = sum(verdict.ratio != 1 for verdict in acting)
        problems = len({line.problem for line in group})
        found.append(Summary(op, conditions, problems, kinds[Trial], failed, len(acting), faster))
    return found


def parse_task(op: str, problem: str, kind: str = KIND) -> Task | None:
    """What a line is about; ``None`` where this version knows no such operator or problem."""
    try:
        return Task(op, operator_of(kind, op).problem.from_key(problem))
    except (LookupError, ValueError, RecursionError):
        return None


def parse_candidate(op: str, problem: str, knobs: str, kind: str = KIND) -> Candidate | None:
    """Task and knobs of a line; ``None`` where this version knows no such thing, or no layer has such sizes."""
    task = parse_task(op, problem, kind)
    try:
        sizes = [value for _, value in numbers([json.loads(problem), json.loads(knobs)])]
        if task is None or max(sizes, default=0) > LARGEST:
            return None
        return Candidate(task, operator_of(kind, op).knobs.from_json(knobs))
    except (ValueError, RecursionError):
        return None


def found_by(lines: Iterable[Line], text: str) -> list[Line]:
    """The lines whose operator or problem, as tables show it, holds ``text``."""
    return [line for line in lines if text.lower() in title_of(line).lower()]


def title_of(line: Line) -> str:
    """Operator and problem, as tables show them."""
    task = parse_task(line.op, line.problem)
    return f"{line.op}: {line.problem if task is None else describe(task)}"
