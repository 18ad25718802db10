"""Warnings that point at the user's own line, however deep in this package or in TVM they arise."""

import sys
import warnings

_OURS = ("tvm", "tvm_ffi", "tvm_fastconv", "contextlib")  # which calls what a context manager decorates


def notify(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the location of the innermost frame that is neither TVM's nor this package's."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
