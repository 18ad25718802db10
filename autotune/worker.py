"""The process that builds and times candidates. Whatever crashes or hangs in it costs one trial.

``python -m tvm_fastconv.autotune.worker FD`` answers calls that come through a pipe, one after the other, until the
pipe ends: with its parent, it ends too.
"""

import ctypes
import pickle
import signal
import sys
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
"""Of ``<linux/prctl.h>``."""


def main() -> None:
    """Answer calls, ``(function, arguments)``: ``(True, result)`` or ``(False, (what went wrong, class of error))``."""
    end_with_parent()
    connection = Connection(int(sys.argv[1]))
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            function, arguments = pickle.loads(message)
            answer = (True, function(*arguments))
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[-1]
            answer = (False, (line, type(error).__name__))
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


def end_with_parent() -> None:
    """Have the kernel kill this process, also while it hangs, once the thread that started it has ended (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
