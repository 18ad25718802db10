"""How many threads a compiled model uses.

TVM keeps one pool of workers per calling thread. A pool is made at the first parallel loop with as many workers as the
calling thread's limit says, never grows, and by default pins the *calling* thread to the first cores: eight callers
with one worker each would all run on core 0. So pinning is switched off, a pool starts as large as the machine (idle
workers sleep), and each call sets how many of them it uses. One thread needs no pool at all. How the process ends
while threads are calling models is in ``shutdown``.
"""

import ctypes
import os
import threading
from functools import cache
from typing import Any

from ..errors import InputError
from ..notices import notify

MAX_THREADS = 1024
"""More than any machine has cores; TVM would start as many as it is told to."""

_SHARE_ALL_CORES = -3  # ThreadGroup::kSpecifyThreadShareAllCore: any core will do

_SPINS = "200"
"""How often an idle worker yields its core before it sleeps. A pool ends, and with it a thread or the process, when its
workers sleep: on busy cores a yield takes 20 ms, and TVM's 300 000 of them would be an hour and a half."""

CURRENT = threading.local()
"""Its ``threads`` are what the calling thread used last, if it called anything."""

_pools = {"made": False, "lost": False}
"""Whether any pool was made here, and whether this process is a fork of one that had: workers do not survive a fork."""


def _after_fork() -> None:
    _pools["lost"] = _pools["made"]
    CURRENT.__dict__.clear()


os.register_at_fork(after_in_child=_after_fork)


@cache
def default_threads() -> int:
    """Return the number of threads when the user gives none.

    ``TVM_NUM_THREADS`` or ``OMP_NUM_THREADS`` if set, else the number of physical cores this process may use.
    """
    for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdecimal():
            return min(max(1, int(value[:20])), MAX_THREADS)
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def check_threads(threads: int | None) -> int:
    """Return the number of threads to use for what the user asked; ``InputError`` where it is no number of threads."""
    if threads is None:
        return default_threads()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise InputError(
            f"threads is {threads!r}; allowed: a number from 1 to {MAX_THREADS}, or None for one per core"
        )
    return threads


def use_threads(threads: int, tvm_ffi: Any) -> None:
    """Let parallel loops that the calling thread starts from now on use ``threads`` threads.

    One, whatever was asked for, in a process forked from one that had workers: loops would wait for them for ever.
    """
    if getattr(CURRENT, "threads", None) == threads:
        return
    os.environ.setdefault("TVM_BIND_THREADS", "0")  # TVM reads it whenever it makes or sizes a pool
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", _SPINS)  # and this when it makes the first
    asked, threads = threads, 1 if _pools["lost"] else threads
    if threads == 1 and (set_limit := _set_limit()) is not None:
        set_limit(1)
    else:
        _pools["made"] = True
        workers = max(threads, os.cpu_count() or 1)
        # The length of the list is the limit that a new pool takes its size from; which cores it names is ignored.
        tvm_ffi.get_global_func("runtime.config_threadpool")(_SHARE_ALL_CORES, threads, ["0"] * workers)
        if (available := tvm_ffi.get_global_func("runtime.NumThreads")()) < threads:
            notify(
                f"{threads} threads were asked for, but TVM already made {available} workers for this calling "
                f"thread; set TVM_NUM_THREADS={threads} before TVM is first used",
                RuntimeWarning,
            )
    CURRENT.threads = asked


@cache
def _set_limit() -> Any:
    """Return ``tvm::runtime::threading::SetMaxConcurrency(int)``, which makes no pool, where the library shows it."""
    try:
        function = ctypes.CDLL(None)["_ZN3tvm7runtime9threading17SetMaxConcurrencyEi"]
    except AttributeError:
        return None
    function.argtypes, function.restype = [ctypes.c_int], None
    return function


def _siblings(cpu: int) -> str:
    """Return what a logical CPU shares with the others of its core, and with no other."""
    try:
        with open(
            f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii"
        ) as file:
            return file.read()
    except OSError:
        return str(cpu)
