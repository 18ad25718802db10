"""Processes end in order, whatever their threads are doing with compiled models."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.runtime import shutdown
from tvm_fastconv.runtime.compiled_model import load
from tvm_fastconv.runtime.shutdown import waited_for_at_exit

DAEMONS = """
import sys, threading
import numpy as np
from tvm_fastconv import load

model, x = load(sys.argv[1], threads=int(sys.argv[2])), np.ones((4, 8), "float32")
begun = threading.Barrier(9)

def call():
    begun.wait()
    while True:
        model(x)

for _ in range(8):
    threading.Thread(target=call, daemon=True).start()
begun.wait()
model(x)
"""

AT_EXIT = """
import atexit, sys, threading
import numpy as np

def call(when):
    print(when, model(x).shape, flush=True)

atexit.register(call, "last")
from tvm_fastconv import load
model, x = load(sys.argv[1], threads=2), np.ones((4, 8), "float32")
threads = [threading.Thread(target=model, args=(x,)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
atexit.register(call, "first")
"""


@pytest.fixture
def ending() -> Iterator[None]:
    shutdown.ENDING.append(None)
    yield
    shutdown.ENDING.clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_daemon_threads_that_call_a_model_do_not_abort_the_process(
    threads: int, chain: SimpleNamespace
) -> None:
    command = [sys.executable, "-c", DAEMONS, str(chain.path), str(threads)]
    done = [subprocess.run(command, capture_output=True, text=True) for _ in range(3)]
    assert [(run.returncode, run.stderr) for run in done] == [(0, "")] * 3


def test_functions_at_exit_may_call_a_model(chain: SimpleNamespace) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(chain.path)], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "first (4, 8)\nlast (4, 8)\n", "")


def test_idle_workers_go_to_sleep_soon(chain: SimpleNamespace) -> None:
    """By default each yields its core 300 000 times first, which a process that ends on a busy machine waits for."""
    code = "import os, sys; from tvm_fastconv import load; load(sys.argv[1])(*[__import__('numpy').ones((4, 8), 'f')])"
    show = "; print(os.environ['TVM_THREAD_POOL_SPIN_COUNT'])"
    for environment, spins in (({}, "200"), ({"TVM_THREAD_POOL_SPIN_COUNT": "7"}, "7")):
        done = subprocess.run(
            [sys.executable, "-c", code + show, str(chain.path)],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.stdout == spins + "\n", done.stderr


def test_a_call_that_is_running_is_waited_for(ending: None) -> None:
    begun, ended = threading.Event(), []

    @waited_for_at_exit
    def call() -> None:
        begun.set()
        time.sleep(0.1)
        ended.append(True)

    shutdown.ENDING.clear()
    threading.Thread(target=call, daemon=True).start()
    begun.wait()
    shutdown._wait()
    assert ended == [True]


def test_at_the_end_a_daemon_thread_begins_no_call_but_others_do(ending: None) -> None:
    called = []
    call = waited_for_at_exit(called.append)
    daemon, other = (threading.Thread(target=call, args=(kind,), daemon=kind) for kind in (True, False))
    daemon.start()
    other.start()
    other.join()
    daemon.join(timeout=0.2)
    assert daemon.is_alive()
    call("main")
    assert called == [False, "main"]
    shutdown._wait()  # the daemon that stands still is not waited for
    assert not shutdown.RUNNING


def test_at_the_end_a_daemon_thread_begins_no_bound_call_but_others_do(
    ending: None, chain: SimpleNamespace
) -> None:
    call, called = load(chain.path, threads=1).bind(chain.x.copy()), []
    daemon, other = (
        threading.Thread(target=lambda kind=kind: called.append((kind, call())), daemon=kind)
        for kind in (True, False)
    )
    daemon.start()
    other.start()
    other.join()
    daemon.join(timeout=0.2)
    assert daemon.is_alive()
    assert [kind for kind, _ in called] == [False]
    call()
    assert not shutdown.RUNNING


def test_a_bound_call_that_fails_is_over(chain: SimpleNamespace) -> None:
    call = load(chain.path, threads=1).bind(chain.x.copy())
    call._call = lambda: 1 // 0
    with pytest.raises(ArtifactError, match="cannot run: integer division"):
        call()
    assert not shutdown.RUNNING


def test_a_call_that_fails_is_over() -> None:
    with pytest.raises(ZeroDivisionError):
        waited_for_at_exit(lambda: 1 // 0)()
    assert not shutdown.RUNNING


def test_a_fork_waits_for_no_thread_of_the_process_it_comes_from() -> None:
    code = """
import os
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.runtime import shutdown
from tvm_fastconv.runtime.compiled_model import load
shutdown.RUNNING.append(None)
child = os.fork()
print("child" if not child else f"parent {os.waitpid(child, 0)[1]}", len(shutdown.RUNNING), flush=True)
shutdown.RUNNING.clear()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "child 0\nparent 0 1\n"
