"""The process that runs the cases: a crash ends it, a hang is ended, and the next case gets another one."""

import contextlib
import multiprocessing
import signal
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import psutil

from tvm_fastconv.errors import FastconvError

from .generator import Generator, Outcome

CASES = 400
"""Cases that one process runs; what libraries keep of each does not pile up."""

PATIENCE = 4
"""How many times its limit a case may take by the clock; what waits for itself computes nothing."""

FRAMES = 6
"""Of an exception that are printed, the last ones."""


class Worker:
    """Runs the cases of one generator; a context manager."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.ran = generator, 0
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, case: Any) -> Outcome:
        """Run one case."""
        if self._process is None or self.ran >= CASES:
            self.start()
        self.ran += 1
        self._connection.send(case)
        if not self._answers():
            self._stop()
            return Outcome("failed", f"still running after {self.generator.limit:.0f} s")
        try:
            return self._connection.recv()
        except EOFError:
            return Outcome("failed", self._death())

    def start(self) -> None:
        """Start a process and wait until it has imported what it needs."""
        self._stop()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.generator), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()
        self.ran = 0

    def _answers(self) -> bool:
        """Wait for the case to end within its limit of computing; on a busy machine that takes longer by the clock."""
        assert self._process is not None
        process, limit = psutil.Process(self._process.pid), self.generator.limit
        end, before = time.monotonic() + PATIENCE * limit, sum(process.cpu_times()[:2])
        while not self._connection.poll(limit / 10):
            if time.monotonic() > end or sum(process.cpu_times()[:2]) - before > limit:
                return False
        return True

    def _stop(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _death(self) -> str:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._stop()
        return (
            f"the process died of {signal.Signals(-code).name}"
            if code < 0
            else f"the process exited ({code})"
        )


def _serve(connection: Connection, generator: Generator) -> None:
    connection.send(None)
    with contextlib.suppress(EOFError):
        while True:
            connection.send(_outcome(generator, connection.recv()))


_NO_REFUSALS = ("This is a bug", "TVM cannot compile this model")
"""What messages for defects say."""


def _outcome(generator: Generator, case: Any) -> Outcome:
    try:
        wrong = generator.run(case)
    except FastconvError as error:
        return Outcome(
            "failed" if any(part in str(error) for part in _NO_REFUSALS) else "refused", str(error)
        )
    except Exception:
        return Outcome("failed", traceback.format_exc(limit=-FRAMES, chain=False))
    return Outcome("clean") if wrong is None else Outcome("failed", wrong)
