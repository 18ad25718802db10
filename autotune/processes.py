"""Worker processes that are kept between trials, and killed with whatever they started when they hang.

TVM's own pools cannot be used for this: MetaSchedule's builder starts its workers anew for every batch, which takes
10 s of imports, and a worker that outlives its parent holds the parent's output open.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tvm_fastconv.errors import TargetError

START_SECONDS = 120.0
"""To start Python and import TVM, on a machine that is busy with other things."""


class WorkerError(Exception):
    """A call failed in the worker, or the worker with it; the message says which.

    Attributes
    ----------
    kind : str, optional
        The name of the exception's class that the call raised.
    """

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


def raise_compilers_error(error: WorkerError) -> None:
    """Where no candidate is to blame, but the compiler that is asked for all of them.

    Raises
    ------
    TargetError
        It is.
    """
    if error.kind == TargetError.__name__:
        raise TargetError(str(error)) from None


class Worker:
    """A process that answers one call at a time; started when first needed, and again after it has died.

    Parameters
    ----------
    threads : int
        Of the parallel loops that run in it.
    environment : mapping, optional
        Variables on top of this process's.
    """

    def __init__(self, threads: int = 1, environment: Mapping[str, str] | None = None) -> None:
        count = str(threads)
        self.environment = {"TVM_NUM_THREADS": count, "OMP_NUM_THREADS": count, "TVM_BIND_THREADS": "0"}
        self.environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def send(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call of ``function``, of a module that the worker can import; `receive` waits for it."""
        if self._process is None:
            self._start()
        assert self._connection is not None
        with contextlib.suppress(OSError):  # it has died; `receive` says so
            self._connection.send((function, arguments))

    def receive(self, seconds: float) -> Any:
        """The result of the call that was sent.

        Raises
        ------
        WorkerError
            It raised, crashed, or took longer than ``seconds``.
        """
        assert self._connection is not None
        assert self._process is not None
        try:
            if not self._connection.poll(seconds):
                self.close()
                raise WorkerError(f"it took longer than {seconds:.0f} s")
            done, answer = self._connection.recv()
        except (EOFError, OSError):
            status = self._process.wait()
            self.close()
            raise WorkerError(f"the process that ran it {_ending(status)}") from None
        if not done:
            raise WorkerError(*answer)
        return answer

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """`send` and `receive`."""
        self.send(function, *arguments)
        return self.receive(seconds)

    def close(self) -> None:
        """End the process, and what it started."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self._connection = None

    def _start(self) -> None:
        ours, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tvm_fastconv.autotune.worker", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path, **self.environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = ours
        self.call(_ready, seconds=START_SECONDS)


def _ready() -> int:
    """Import what trials need, so that the first is not charged for it; returns how much that was.

    What was imported stays: the collector, which runs before every timing, need not look at it (0.1 s each time).
    """
    from . import measure_candidate  # noqa: F401

    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
