"""What goes to a device that no network reaches, and what comes back: two files of JSON.

``batch.json`` lies beside the candidates' libraries, their data (``.npy``) and the answers expected of them;
``results.json`` is written there and says of itself what was measured.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tvm_fastconv.regular_files import open_regular
from tvm_fastconv.typed_json import AtMost, from_json, one_line, to_json

BATCH, RESULTS = "batch.json", "results.json"

MAX_BYTES = 1 << 28
"""Of either file."""

MAX_JOBS, MAX_TURNS = 100_000, 1000


@dataclass(frozen=True, kw_only=True)
class Built:
    """A candidate as files.

    Attributes
    ----------
    knobs : str
        As JSON.
    library : str
    arrays : tuple of str
        What the function reads, in order.
    """

    knobs: str
    library: str
    arrays: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Candidates of one task that are timed in turns.

    Attributes
    ----------
    op, problem : str
    candidates : tuple of Built
    expected : str
        The answer of them all.
    turns : int
    footprint : int, optional
        Bytes that a network touches between two runs; without, a candidate runs from its caches.
    """

    op: str
    problem: str
    candidates: tuple[Built, ...]
    expected: str
    turns: int
    footprint: int | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that is to be measured.

    Attributes
    ----------
    conditions : str
        What the measurements hold for; comes back as it is.
    features : tuple of str
        Of the processor, that the libraries need.
    threads : int
    jobs : tuple of Job
    gpu_arch : int, optional
        The compute capability of the GPU that candidates run on; without, it is the processor.
    """

    conditions: str
    features: tuple[str, ...]
    threads: int
    jobs: tuple[Job, ...]
    gpu_arch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a job.

    Attributes
    ----------
    op, problem : str
    knobs : tuple of str
    contest : bool
        Whether this was measured as the network finds it, to decide who is the fastest.
    times : tuple of tuple of float
        Seconds of each candidate, by turns; none where one of them failed.
    error : str, optional
        Why there are none.
    """

    op: str
    problem: str
    knobs: Annotated[tuple[str, ...], AtMost(MAX_JOBS)]
    contest: bool
    times: Annotated[tuple[Annotated[tuple[float, ...], AtMost(MAX_TURNS)], ...], AtMost(MAX_JOBS)]
    error: str | None = None

    def __post_init__(self) -> None:
        if self.error is not None and self.times:
            raise ValueError("there are times beside an error")
        if self.error is None and len(self.times) != len(self.knobs):
            raise ValueError(f"there are {len(self.times)} times of {len(self.knobs)} candidates")
        if len({len(each) for each in self.times}) > 1:
            raise ValueError("candidates have different numbers of turns")
        if not all(each and all(1e-9 <= seconds < 1e9 for seconds in each) for each in self.times):
            raise ValueError("a time is no number of seconds between 1e-9 and 1e9")


@dataclass(frozen=True, kw_only=True)
class Results:
    """What came of a batch.

    Attributes
    ----------
    conditions : str
        Of the batch.
    processor : str
        What the device calls its processor.
    clock : float
        Cycles in a second.
    results : tuple of Result
    """

    conditions: str
    processor: str
    clock: float
    results: Annotated[tuple[Result, ...], AtMost(MAX_JOBS)]

    def __post_init__(self) -> None:
        if not 1e6 < self.clock < 1e11:
            raise ValueError(f"clock is {self.clock:g} Hz; allowed: between 1e6 and 1e11")
        if not (self.processor.isprintable() and len(self.processor) < 1000):
            raise ValueError("processor is no name that can be printed")


def write(entry: Batch | Results, path: Path) -> None:
    """Write a file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(one_line(to_json(entry)), encoding="utf-8")
    os.replace(unfinished, path)


def read_batch(path: Path) -> Batch:
    """Inverse of `write`.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or is no batch.
    """
    return from_json(Batch, _read(path), "batch")


def read_results(path: Path) -> Results:
    """Inverse of `write`.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or holds no results.
    """
    return from_json(Results, _read(path), "results")


def _read(path: Path) -> object:
    with open_regular(path) as file:
        try:
            return json.loads(file.read(MAX_BYTES))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
