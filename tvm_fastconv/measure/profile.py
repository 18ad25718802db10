"""Milliseconds per layer, measured around every call that the virtual machine makes.

Equal layers share code, so a call is told apart by its place in the order of calls, which the manifest holds.
"""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..artifact.artifact import replacing
from ..artifact.manifest import CallRecord
from ..errors import ArtifactError, InputError


@dataclass(frozen=True, kw_only=True)
class CallTime:
    """One call of a compiled function: its layer, if it belongs to one, its start after the first, and its duration."""

    function: str
    layer: str | None
    start_ms: float
    ms: float

    @property
    def name(self) -> str:
        """The layer's name, for calls outside all layers the function's."""
        return self.layer or self.function


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one inference spends its time on.

    Parameters
    ----------
    calls
        Every call in order, all of one run: the one in which they took the least time together.
    total_ms
        Shortest of as many whole calls without measuring inside them.
    """

    calls: tuple[CallTime, ...]
    total_ms: float

    @property
    def layers(self) -> dict[str, float]:
        """Milliseconds per layer, in the order of each layer's first call."""
        sums: dict[str, float] = {}
        for call in self.calls:
            sums[call.name] = sums.get(call.name, 0.0) + call.ms
        return sums

    def write_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the calls in Chrome's trace format, for ``chrome://tracing`` or Perfetto.

        Raises
        ------
        ArtifactError
            The file cannot be written.
        """
        events = [
            {"name": call.name, "cat": call.function, "ph": "X", "pid": 0, "tid": 0}
            | {"ts": call.start_ms * 1e3, "dur": call.ms * 1e3, "args": {"function": call.function}}
            for call in self.calls
        ]
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)


class CallTimer:
    """Runs a model, and times every call of a compiled function in it.

    Parameters
    ----------
    machine
        A virtual machine, which is instrumented for good.
    entry
        The function of it that is the model.
    arguments
        What that reads.
    calls
        The calls that it makes, as the manifest lists them.
    wait
        Returns when everything that was begun is done.
    turn
        Makes what a run happens in.
    """

    def __init__(
        self,
        machine: Any,
        entry: str,
        arguments: Sequence[Any],
        calls: Sequence[CallRecord],
        wait: Callable[[], None] = lambda: None,
        turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.calls, self._turn = calls, turn
        self._run = functools.partial(machine[entry], *arguments)
        self._recorder = _Recorder({call.function for call in calls}, wait)
        machine["set_instrument"](self._recorder)

    def __call__(self) -> list[tuple[float, float]]:
        """Run once; returns start and seconds of every call, in order.

        Raises
        ------
        ArtifactError
            When the calls that happen are not the ones that the manifest lists.
        """
        self._recorder.spans = []
        with self._turn():
            self._run()
        if [span[0] for span in self._recorder.spans] != [call.function for call in self.calls]:
            raise ArtifactError(
                "the calls that were made are not the ones in the manifest; the file cannot be profiled"
            )
        return [(begin, seconds) for _, begin, seconds in self._recorder.spans]


def profile_calls(run: Callable[[], Any], timer: CallTimer, repeat: int) -> Profile:
    """Run ``run`` (whole) and ``timer`` in turns and time both.

    Raises
    ------
    ArtifactError
        When the calls that happen are not the ones that the manifest lists.
    InputError
        When ``repeat`` is no number from 1 on.
    """
    check_repeats("repeat", repeat)
    whole: list[float] = []
    rounds: list[list[tuple[float, float]]] = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        run()
        whole.append(time.perf_counter() - begin)
        rounds.append(timer())
    # The first round warms up. Minima, since on a busy machine a median of short calls misses the interruptions that
    # a median of whole runs contains, and the two would not agree.
    best = min(rounds[1:], key=lambda spans: sum(seconds for _, seconds in spans))
    return Profile(
        calls=tuple(
            CallTime(
                function=call.function,
                layer=call.layer,
                start_ms=(begin - best[0][0]) * 1e3,
                ms=seconds * 1e3,
            )
            for call, (begin, seconds) in zip(timer.calls, best, strict=True)
        ),
        total_ms=min(whole[1:]) * 1e3,
    )


def check_repeats(name: str, repeats: object) -> None:
    """Raise ``InputError`` unless a number of runs is one."""
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"{name} is {repeats!r}; allowed: a whole number from 1 on")


class _Recorder:
    """Called by the virtual machine before and after each call; keeps (function, start, seconds) of compiled ones."""

    def __init__(self, functions: set[str], wait: Callable[[], None]) -> None:
        self._functions, self._wait = functions, wait
        self._begin = 0.0
        self.spans: list[tuple[str, float, float]] = []

    def __call__(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        self._wait()
        now = time.perf_counter()
        if before:
            self._begin = time.perf_counter()
        elif name in self._functions:
            self.spans.append((name, self._begin, now - self._begin))
