"""Temporary folders that are gone when the process is, however it ended: they hold weights.

A folder is locked (``flock``) by the process that made it, for as long as that lives; the kernel lets go of a lock when
its process ends, be it by SIGKILL. So a folder of ours that nobody locks was left behind, and the next one to make a
folder at the same place removes it. Locks are seen by every process on the machine, in whatever container; numbers of
processes are not.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from .errors import ArtifactError

PREFIX = "fastconv-"
"""Of the names of all folders; hidden ones, beside what the user asked for, have a dot before it."""

_DIGITS = 16
"""Random hexadecimal digits behind the prefix: what a user calls ``fastconv-data`` is none of these folders."""

_lock = threading.RLock()
_made: dict[Path, int | None] = {}
"""The folders of this process, from just before they are made, and the open descriptors that hold their locks."""


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Make a folder that only this user can enter, and remove it at the end of the block.

    Parameters
    ----------
    parent
        Where to make it, under a hidden name; by default ``$TMPDIR``, under a plain one.

    Raises
    ------
    ArtifactError
        When it cannot be made.
    """
    prefix = PREFIX if parent is None else f".{PREFIX}"
    try:
        place = Path(tempfile.gettempdir() if parent is None else parent)
        sweep(place, prefix)
        folder = _make(place, prefix)
    except OSError as error:
        raise ArtifactError(
            f"cannot make a temporary folder: {error.strerror}: {error.filename or ''}"
        ) from None
    try:
        yield folder
    finally:
        _remove(folder)


def sweep(place: Path, prefix: str = PREFIX) -> None:
    """Remove the folders at ``place`` that processes of this user left behind when they were killed."""
    ours = re.compile(re.escape(prefix) + f"[0-9a-f]{{{_DIGITS}}}")
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and (descriptor := _abandoned(entry.path)) is not None:
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(descriptor)


def remove_all() -> None:
    """Remove every folder of this process, which makes no more of them: it is about to end."""
    _lock.acquire()  # for good; a signal that interrupts this thread while it has the lock gets in
    for folder in list(_made):
        for _ in range(100):  # a compiler that is still running may write into it
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break


def _make(place: Path, prefix: str) -> Path:
    """Make a folder and lock it. Until then another process may take it for abandoned: then a second one is made."""
    while True:
        with _lock:
            folder = place.absolute() / f"{prefix}{secrets.token_hex(_DIGITS // 2)}"
            _made[folder] = None
            try:
                os.mkdir(folder, 0o700)
                _made[folder] = descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.stat(folder)
            except FileNotFoundError:
                _remove(folder)
                os.stat(place)  # was it the folder that is missing, or the place?
            except OSError:
                del _made[folder]
                raise
            else:
                return folder


def _remove(folder: Path) -> None:
    """Remove a folder that this process made, not one that it inherited by a fork."""
    with _lock:
        if folder not in _made:
            return
        shutil.rmtree(folder, ignore_errors=True)
        if (descriptor := _made.pop(folder)) is not None:
            os.close(descriptor)


def _abandoned(path: str) -> int | None:
    """Return the locked descriptor of a folder that is this user's and nobody else's lock holds, else ``None``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _after_fork() -> None:
    """Leave the folders to the process that made them, and let go of their locks, which a fork shares."""
    for descriptor in filter(None, _made.values()):
        os.close(descriptor)
    _made.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
