"""Open what a user named for reading, once it is known to be a file."""

import errno
import io
import os
import stat

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a regular file for reading, unbuffered.

    Raises
    ------
    OSError
        As ``open`` raises it, or because ``path`` is something else than a file. That is not opened: opening a FIFO
        waits for a writer, and opening a device may do anything.
    """
    _require_regular(os.stat(path), path)
    # Should another file have taken its place meanwhile, opening it must not wait, and it is looked at once more.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _require_regular(os.fstat(descriptor), path)
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(
            errno.EINVAL, f"it is {_KINDS.get(kind, 'no file')}, not a regular file", os.fspath(path)
        )
