"""The end of a process while daemon threads are calling models.

When the interpreter shuts down it ends every daemon thread at the moment it comes back from compiled code, by
unwinding its stack. TVM's functions cannot be unwound: the process would abort. So at exit, before that begins, the
calls that are running are waited for, and no daemon thread begins another. The main thread still may: functions
registered with ``atexit`` before this module was imported run later.
"""

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_PATIENCE = 30.0
"""Seconds after which a call that does not end is no longer waited for."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

RUNNING: list[None] = []
"""One item for each call that is running; appending and popping are atomic, and take 60 ns."""

ENDING: list[None] = []
"""Holds something once the process is ending."""


def waited_for_at_exit(function: _Function) -> _Function:
    """Make a function that runs compiled code one that the process does not end in the middle of."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        RUNNING.append(None)  # first, so that whoever has seen no ending is seen by it
        try:
            if not ENDING or not threading.current_thread().daemon:
                return function(*arguments, **named)
        finally:
            RUNNING.pop()
        while True:
            time.sleep(3600)

    return run  # type: ignore[return-value]


def _wait() -> None:
    ENDING.append(None)
    deadline = time.monotonic() + _PATIENCE
    while RUNNING and time.monotonic() < deadline:
        time.sleep(0.001)


os.register_at_fork(after_in_child=RUNNING.clear)
atexit.register(_wait)
