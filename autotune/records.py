"""Records: what was measured, one line of JSON for each trial and each verdict, in a file that only grows.

::

    {"kind": "trial", "op": "conv2d", "problem": {...}, "knobs": {...}, "seconds": 1.2e-05, ...}
    {"kind": "verdict", "op": "conv2d", "problem": {...}, "knobs": {...}, "ratio": 1.08, "low": 1.06, "high": 1.1, ...}

A trial is a candidate that was timed, or why it was not. A verdict is what a task's search ended with: the knobs that
beat the default, or the default itself. Whatever was written is on the disk before the next batch is measured, so that
no end of the process costs more than the batch in flight.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tvm_fastconv.artifact.artifact import reason
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.notices import notify
from tvm_fastconv.regular_files import open_regular
from tvm_fastconv.topi.planner import Measured
from tvm_fastconv.typed_json import from_json, one_line

MAX_BYTES = 1 << 30
"""Of a file of records; a line takes about 500 bytes."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a measurement holds for.

    Attributes
    ----------
    cpu : str
        LLVM's name of the processor, and the features that were added to or taken from it; of a GPU, our row's.
    threads : int
    package, tvm : str
        Versions: another one may give the same knobs other code.
    """

    cpu: str
    threads: int
    package: str
    tvm: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.cpu}, {threads}, version {self.package} on TVM {self.tvm}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What trials and verdicts have in common.

    Attributes
    ----------
    op : str
    problem, knobs : str
        As one line of JSON each; objects in the file.
    conditions : Conditions
    processor : str
        The name that the device gives itself.
    seconds : float, optional
        Of one call; the best turn of a trial, the median of a verdict's.

    Raises
    ------
    ValueError
        A time or a ratio is no positive number.
    """

    op: str
    problem: str
    knobs: str
    conditions: Conditions
    processor: str
    seconds: float | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; allowed: finite numbers above 0")

    @property
    def task(self) -> tuple[str, str]:
        """Operator and key of the problem."""
        return self.op, self.problem


@dataclass(frozen=True, kw_only=True)
class Trial(Line):
    """A candidate that was measured.

    Attributes
    ----------
    error : str, optional
        Why it has no time.
    is_default : bool
        Whether the task's other trials are compared with it.
    """

    error: str | None = None
    is_default: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict(Line):
    """What the search of a task ended with.

    Attributes
    ----------
    default_seconds : float
        Of the default knobs, in the same turns.
    ratio, low, high : float
        How many times faster than the default: the median of the turns, and its confidence interval of 95 %.
    cycles : float, optional
        The time in cycles of the device's clock, to set against other operators; none where it cannot be.
    """

    default_seconds: float
    ratio: float
    low: float
    high: float
    cycles: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low <= self.ratio <= self.high:
            raise ValueError(
                f"the interval from {self.low} to {self.high} does not hold the ratio {self.ratio}"
            )


@dataclass(frozen=True, kw_only=True)
class Withdrawal(Line):
    """The verdicts on a task hold no longer: a network was slower with them than without."""


_KINDS: dict[str, type[Line]] = {"trial": Trial, "verdict": Verdict, "withdrawal": Withdrawal}


def to_line(entry: Line) -> str:
    """``entry`` as one line of a file."""
    fields = asdict(entry)
    fields |= {name: json.loads(fields[name]) for name in ("problem", "knobs")}
    kind = next(name for name, cls in _KINDS.items() if type(entry) is cls)
    return one_line({"kind": kind, **fields})


def from_line(text: str) -> Line:
    """Inverse of `to_line`.

    Raises
    ------
    ValueError
        The line is none of ours, or damaged.
    """
    fields = json.loads(text)
    kind = _KINDS.get(str(fields.pop("kind", None))) if isinstance(fields, dict) else None
    if kind is None:
        raise ValueError("neither a trial, nor a verdict, nor a withdrawal")
    fields |= {name: one_line(fields.get(name)) for name in ("problem", "knobs")}
    return from_json(kind, fields, "line")


def read_records(path: str | os.PathLike[str]) -> list[Line]:
    """All lines of a file, less those that are damaged, of which one warning tells.

    Raises
    ------
    ArtifactError
        The file cannot be read.
    """
    found, damaged = [], []
    try:
        with open_regular(path) as file:
            lines = file.read(MAX_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read the records {path}: {reason(error)}") from None
    for number, text in enumerate(lines, 1):
        if text.strip():
            try:
                found.append(from_line(text))
            except (ValueError, RecursionError):
                damaged.append(number)
    if damaged:
        more = f", and {len(damaged) - 1} others" if len(damaged) > 1 else ""
        notify(f"{path}: line {damaged[0]} is damaged{more}; what is damaged is passed over")
    return found


def append_records(path: str | os.PathLike[str], entries: Iterable[Line]) -> None:
    """Add lines to a file, which then are on the disk; it is made where there is none.

    Raises
    ------
    ArtifactError
        It cannot be written.
    """
    text = "".join(f"{to_line(entry)}\n" for entry in entries).encode()
    try:
        with open(path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"\n" * _ends_within_a_line(file) + text)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot write the records {path}: {reason(error)}") from None


def _ends_within_a_line(file: Any) -> bool:
    """Whether the last process that wrote was ended while it did."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def measured(lines: Iterable[Line], conditions: Conditions) -> Mapping[tuple[str, str], Measured]:
    """What dispatch takes under ``conditions``; of several verdicts on a task, the last."""
    found: dict[tuple[str, str], Measured] = {}
    for line in lines:
        if line.conditions == conditions and isinstance(line, Verdict):
            found[line.task] = Measured(line.knobs, line.cycles, line.ratio)
        elif line.conditions == conditions and isinstance(line, Withdrawal):
            found.pop(line.task, None)
    return found
