"""SIGINT and SIGTERM end a verb at once and tidily, in whatever it is doing.

Python would raise an exception in the main thread at its next step. In the middle of TVM that comes seconds late, or
inside a callback, whose traceback TVM then prints. So a thread of its own waits for the signals: it removes the
temporary folders, prints one line and ends the process.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from tvm_fastconv.temporary import remove_all

_MESSAGES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_CLEAR = "\r\x1b[K\x1b[?25h"
"""On a terminal: what ``progress`` shows is wiped, and the cursor is shown again."""


_KEPT: list[str] = []
"""What is not lost when a signal ends the process, innermost last."""


@contextlib.contextmanager
def keeping(what: str) -> Iterator[None]:
    """Let a signal that ends the process while the block runs say ``what`` is kept, and how to go on."""
    _KEPT.append(what)
    try:
        yield
    finally:
        _KEPT.pop()


@contextlib.contextmanager
def ending_tidily() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process with exit code 130 and 143 while the block runs, in the main thread."""
    handled = [number for number in _MESSAGES if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not handled:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    previous = {number: signal.signal(number, _handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """Wait for the number of a signal, which the process writes the moment it arrives, even inside compiled code."""
    while number := os.read(reader, 1):
        if number[0] in list(_MESSAGES):
            _end(signal.Signals(number[0]))


def _handle(number: int, _frame: FrameType | None) -> None:
    """End the process from the main thread, should that come first; whoever comes second waits for the end."""
    _end(signal.Signals(number))


def _end(number: signal.Signals) -> None:
    try:
        remove_all()
        clear = _CLEAR if sys.stderr.isatty() else ""
        kept = f"; {_KEPT[-1]}" if _KEPT else ""
        os.write(2, f"{clear}error: {_MESSAGES[number]}{kept}\n".encode())
    finally:
        os._exit(128 + number)
