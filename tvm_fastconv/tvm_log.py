"""TVM's own log, which C++ writes to ``std::cerr``, past Python's warnings and logging.

What goes wrong in TVM is raised; its log holds advice for its developers, such as what a builder says that an error
left unfinished. So the stream is closed while TVM works for this package.
"""

import contextlib
import ctypes
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import cache

_GOOD, _FAILED = 0, 4  # std::ios_base::goodbit, failbit: a stream that failed writes nothing

_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def quiet_tvm() -> Iterator[None]:
    """Write nothing to ``std::cerr`` in the block, in any thread; Python's ``sys.stderr`` is another stream."""
    _count(1)
    try:
        yield
    except BaseException as error:
        _forget(error)
        raise
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _users
    with _lock:
        _users += change
        if (set_state := _set_state()) is not None:
            set_state(_FAILED if _users else _GOOD)


def _forget(error: BaseException | None) -> None:
    """Let go of what an error's frames hold: unfinished builders write to the log when they are destroyed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@cache
def _set_state() -> Callable[[int], None] | None:
    """Return ``std::cerr.clear(state)``, where the library is GNU's."""
    try:
        library = ctypes.CDLL("libstdc++.so.6")
        clear = library["_ZNSt9basic_iosIcSt11char_traitsIcEE5clearESt12_Ios_Iostate"]
        stream = ctypes.addressof(ctypes.c_char.in_dll(library, "_ZSt4cerr"))
    except (OSError, AttributeError, ValueError):
        return None
    # The state belongs to a virtual base, whose place is the third word in front of the virtual functions.
    functions = ctypes.c_size_t.from_address(stream).value
    base = ctypes.c_ssize_t.from_address(functions - 3 * ctypes.sizeof(ctypes.c_ssize_t)).value
    clear.argtypes, clear.restype = [ctypes.c_void_p, ctypes.c_int], None
    return lambda state: clear(stream + base, state)
