import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.errors import InputError
from tvm_fastconv.runtime.compiled_model import load
from tvm_fastconv.runtime.threads import default_threads

ROWS = 64


@pytest.fixture(scope="module")
def who(build, tmp_path_factory):
    """A model whose one parallel loop writes, per row, the id of the thread that ran it."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((ROWS,), "uint64"))

    def thread_ids(a):
        return te.compute(
            (ROWS,), lambda i: a[i] + tvm.tirx.call_extern("uint64", "pthread_self"), name="ids"
        )

    with bb.function("main", [x]):
        with bb.dataflow():
            y = bb.emit_output(bb.call_te(thread_ids, x, primfunc_name_hint="ids"))
        bb.emit_func_output(y)
    mod = bb.get()
    schedule = tvm.s_tir.Schedule(tvm.IRModule({"main": mod["ids"]}))
    schedule.parallel(schedule.get_loops(schedule.get_sblock("ids"))[0])
    mod.update_func(mod.get_global_var("ids"), schedule.mod["main"])
    path = tmp_path_factory.mktemp("who") / "who.so"
    build(mod, path)
    return path


def in_new_thread(function):
    """Run in a thread of its own, since TVM's pools belong to the calling thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def workers(model):
    return len(set(model(np.zeros(ROWS, "uint64")).tolist()))


def test_threads_sets_the_number_of_workers(who, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)  # more than were asked for first
    counts = (1, 2, 4, 1, 3)
    models = [load(who, threads=count) for count in counts]
    assert in_new_thread(lambda: [workers(model) for model in models]) == [*counts]
    assert in_new_thread(lambda: [workers(models[0]), workers(models[2]), workers(load(who))]) == [
        1,
        4,
        default_threads(),
    ]


def test_calling_thread_is_not_pinned_and_one_thread_makes_no_pool(who):
    # In a process of its own: here, threads of other tests may end between two counts.
    script = f"""if True:
        import os
        import numpy as np
        from tvm_fastconv import load

        def count(threads):
            load({str(who)!r}, threads=threads)(np.zeros({ROWS}, "uint64"))
            return len(os.listdir("/proc/self/task"))

        affinity, first = os.sched_getaffinity(0), len(os.listdir("/proc/self/task"))
        assert count(1) == first
        assert count(2) > first
        assert os.sched_getaffinity(0) == affinity
    """
    environment = {key: value for key, value in os.environ.items() if key != "TVM_BIND_THREADS"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_compile_leaves_the_calling_thread_where_it_was():
    script = """if True:
        import os, torch, tvm_fastconv
        before = os.sched_getaffinity(0)
        tvm_fastconv.compile(torch.nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 9, 9),))
        assert os.sched_getaffinity(0) == before
    """
    environment = {key: value for key, value in os.environ.items() if key != "TVM_BIND_THREADS"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_warns_where_a_pool_cannot_grow(who):
    def grow():
        workers(load(who, threads=2))
        with pytest.warns(RuntimeWarning, match=r"threads were asked for, but TVM already made \d+ workers"):
            workers(load(who, threads=max(2, os.cpu_count() or 1) + 1))

    in_new_thread(grow)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, 1025, 99999999999, 10**30])
def test_wrong_numbers(who, threads):
    with pytest.raises(InputError, match=r"threads is .*; allowed: a number from 1 to 1024, or None"):
        load(who, threads=threads)


def test_environment_sets_the_default():
    script = "from tvm_fastconv.runtime.threads import default_threads; print(default_threads())"
    environment = os.environ | {"TVM_NUM_THREADS": "5"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout.strip() == b"5"


FORK = """
import os, signal, sys
import numpy as np
from tvm_fastconv.runtime.compiled_model import load

model = load(sys.argv[1], threads=2)
zeros = np.zeros(64, "uint64")
assert len(set(model(zeros).tolist())) == 2
pid = os.fork()
if pid == 0:
    signal.alarm(300)  # a hang ends as a failure; far longer than a busy machine takes
    os._exit(0 if len(set(model(zeros).tolist())) == 1 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0)
"""


def test_a_forked_process_runs_without_its_parents_workers(who):
    done = subprocess.run([sys.executable, "-c", FORK, str(who)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("value", "threads"), [("0", 1), ("3", 3), ("9" * 5000, 1024), ("²", None), ("many", None)]
)
def test_the_environment_names_a_number_of_threads(
    value: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cores = default_threads.__wrapped__()
    monkeypatch.setenv("TVM_NUM_THREADS", value)
    assert default_threads.__wrapped__() == (threads or cores)
