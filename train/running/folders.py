"""The folder of a training: one process writes into it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tvm_fastconv.errors import TrainError


@contextlib.contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Keep other trainings out of ``folder``, if there is one, while the block runs, however the process ends.

    Raises
    ------
    TrainError
        Another one is in there.
    """
    if folder is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(f"another training is writing into {folder}; give another folder") from None
        except OSError:  # some file systems of networks have no locks
            pass
        yield
    finally:
        os.close(handle)
