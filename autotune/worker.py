"""The process that builds and times candidates. Whatever crashes or hangs in it costs one trial.

``python -m tvm_fastconv.autotune.worker FD`` answers calls that come through a pipe, one after the other, until the
pipe ends: with its parent, it ends too.
"""

import sys
from multiprocessing.connection import Connection


def main() -> None:
    """Answer calls: ``(function, arguments)`` → ``(True, result)`` or ``(False, what went wrong in one line)``."""
    connection = Connection(int(sys.argv[1]))
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = (True, function(*arguments))
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[-1]
            answer = (False, line)
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
