"""Tuning on devices behind a tracker: here two servers on this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn
from tvm.rpc import base
from tvm.rpc.tracker import Tracker

import tvm_fastconv as fc
from tvm_fastconv.autotune import rpc_runner
from tvm_fastconv.autotune.candidate import Candidate
from tvm_fastconv.autotune.rpc_address import Address, Description, tracker_key
from tvm_fastconv.autotune.rpc_runner import RPCRunner
from tvm_fastconv.autotune.rpc_trial import parse_times
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.autotune.serve import serving
from tvm_fastconv.errors import FastconvError, InputError
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.targets import spec_of

from .fake import task

pytestmark = pytest.mark.slow

X = torch.randn(1, 3, 16, 16)

KEY, SECRET = "box", "open sesame"


def _description() -> Description:
    target, machine = target_and_machine("native")
    return Description(spec_of(target), machine, "a processor", 3e9)


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    made = Tracker("127.0.0.1", 9390, 9490, silent=True)
    yield made
    made.terminate()


@pytest.fixture(scope="module")
def servers(tracker: Tracker) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(serving(_description(), KEY, SECRET, ("127.0.0.1", tracker.port), port=9491))
        _wait_for(tracker, tracker_key(KEY, SECRET), 2)
        yield


def _wait_for(tracker: Tracker, name: str, count: int) -> None:
    session = base.connect_with_retry(("127.0.0.1", tracker.port))
    session.close()
    from tvm import rpc

    for _ in range(100):
        found = rpc.connect_tracker("127.0.0.1", tracker.port).summary()["queue_info"].get(name, {"free": 0})
        if found["free"] >= count:
            return
        time.sleep(0.1)
    raise TimeoutError(f"the tracker knows no {count} of {name}")


def _address(tracker: Tracker, key: str = KEY, secret: str = SECRET) -> Address:
    return Address("127.0.0.1", tracker.port, key, secret)


@pytest.mark.usefixtures("servers")
def test_devices_say_what_they_are_and_measure(tracker: Tracker) -> None:
    runner = RPCRunner(_address(tracker))
    with contextlib.closing(runner):
        assert runner.description == _description()
        assert (runner.device.target, runner.clock, runner.processor) == (
            _description().target, 3e9, "a processor",
        )  # fmt: skip
        assert runner.width == 2
        search = Search(task("conv2d"), runner.device)
        candidates = search.propose(5, None)
        outcomes = runner.run(candidates)
        assert [outcome.error for outcome in outcomes] == [None] * 5
        assert all(outcome.seconds for outcome in outcomes)
        times = runner.compare(candidates[:2], turns=6, footprint=1 << 16)
        assert times is not None
        assert [len(each) for each in times] == [6, 6]


@pytest.mark.usefixtures("servers")
def test_whole_models_are_timed_on_the_device(tracker: Tracker) -> None:
    models = [fc.compile(nn.Conv2d(3, 8, size).eval(), X, verify=False) for size in (1, 3)]
    with contextlib.closing(RPCRunner(_address(tracker), devices=1)) as runner:
        times = runner.time_models(models, (X,), 7)
        assert times is not None
        assert [len(each.whole) for each in times] == [7, 7]
        assert [set(each.layers) for each in times] == [{layer.name for layer in m.layers} for m in models]
        assert runner.time_models(models, (X[:, :2],), 7) is None  # the models refuse it


@pytest.mark.usefixtures("servers")
def test_a_wrong_answer_of_a_device_is_refused(tracker: Tracker) -> None:
    """The candidate is another task's than it says: what the device computes is not what is expected."""
    with contextlib.closing(RPCRunner(_address(tracker), devices=1)) as runner:
        first, second = Search(task("conv2d"), runner.device), Search(task("conv2d, odd"), runner.device)
        good = Candidate(first.task, first.default)
        (outcome,) = runner.run([good])
        assert outcome.error is None
        impostor = Candidate(_Impostor(), second.default)  # type: ignore[arg-type]
        bad, last = runner.run([impostor, good])
        assert "wrong answer" in str(bad.error)
        assert last.error is None


class _Impostor:
    """Equal to one task, and made of another."""

    def __reduce__(self) -> tuple:
        return _impostor, ()


def _impostor() -> object:
    from tvm_fastconv.autotune import check_answer

    other = task("conv2d, odd")
    check_answer._expected[other] = next(iter(check_answer._expected.values()))
    return other


@pytest.mark.usefixtures("servers")
def test_who_lacks_the_secret_finds_nobody(tracker: Tracker) -> None:
    for key, secret in ((KEY, "guess"), (KEY, ""), ("shelf", SECRET)):
        with pytest.raises(InputError, match=f"knows no device '{key}' with this secret; it knows: box"):
            RPCRunner(_address(tracker, key, secret))


def test_no_tracker_is_one_line() -> None:
    with pytest.raises(InputError, match=r"no tracker answers at 127\.0\.0\.1:1: "):
        RPCRunner(Address("127.0.0.1", 1, KEY))


@pytest.mark.usefixtures("servers")
def test_a_session_that_is_killed_costs_nothing_but_time(tracker: Tracker) -> None:
    with contextlib.closing(RPCRunner(_address(tracker))) as runner:
        candidates = Search(task("conv2d"), runner.device).propose(8, None)
        stop = threading.Event()

        def kill() -> None:
            """Kill two sessions, which are processes that the servers fork."""
            killed = 0
            while not stop.is_set() and killed < 2:
                for server in psutil.Process().children():
                    if "tvm.exec.popen_worker" in server.cmdline():
                        for session in server.children():
                            session.kill()
                            killed += 1
                stop.wait(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        outcomes = runner.run(candidates)
        stop.set()
        killer.join()
        assert sum(outcome.seconds is not None for outcome in outcomes) >= 6


def test_a_device_that_talks_nonsense_ends_tuning_in_one_line(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_runner, "HOST_SECONDS", 20.0)
    with _nonsense(tracker, "liar"), pytest.raises(InputError, match="device 'liar': "):
        RPCRunner(_address(tracker, "liar", ""), seconds=5)


def test_a_server_that_is_started_again_is_waited_for(tracker: Tracker) -> None:
    runner = None
    for _ in range(2):
        with serving(_description(), "lamp", "", ("127.0.0.1", tracker.port), port=9491):
            _wait_for(tracker, "lamp", 1)
            runner = runner or RPCRunner(_address(tracker, "lamp", ""))
            candidates = Search(task("conv2d"), runner.device).propose(2, None)
            assert [outcome.error for outcome in runner.run(candidates)] == [None, None]
    assert runner is not None
    started = threading.Event()

    def start_again() -> None:
        with serving(_description(), "lamp", "", ("127.0.0.1", tracker.port), port=9491):
            started.wait()

    # None is there when the trials begin.
    server = threading.Timer(2, start_again)
    server.start()
    with contextlib.closing(runner):
        assert [outcome.error for outcome in runner.run(candidates)] == [None, None]
    started.set()
    server.join()


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "[[1.0]]", "[[1.0, 2.0], [1.0]]", "[[1.0, 0.0]]", "[[1.0, NaN]]", '[[1.0, "2"]]', "7"],
)
def test_what_is_no_times_is_told(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_times(text, 1, 2)
    assert parse_times("[[1.0, 2.0]]", 1, 2) == [[1.0, 2.0]]


SERVE = """
import sys, time
from tests.autotune.test_rpc import _description
from tvm_fastconv.autotune.serve import serving
if __name__ == "__main__":
    with serving(_description(), "stray", "", ("127.0.0.1", int(sys.argv[1])), port=9591) as port:
        print(port, flush=True)
        time.sleep(1000)
"""


def test_a_server_does_not_outlive_who_started_it(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "serve_it.py").write_text(SERVE)
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "serve_it.py", str(tracker.port)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    _wait_for(tracker, "stray", 1)
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    parent.kill()
    parent.wait()
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.1)
    pytest.fail("the server still listens")


def test_devices_that_vanish_end_tuning_in_one_line(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_runner, "PATIENCE", 2)
    with serving(_description(), "candle", "", ("127.0.0.1", tracker.port), port=9491):
        _wait_for(tracker, "candle", 1)
        runner = RPCRunner(_address(tracker, "candle", ""), seconds=3)
    with contextlib.closing(runner):
        monkeypatch.setattr(rpc_runner, "HOST_SECONDS", 1.0)
        with pytest.raises(FastconvError, match="no device 'candle' answers any more: "):
            runner.run(Search(task("conv2d"), runner.device).propose(3, None))


@contextlib.contextmanager
def _nonsense(tracker: Tracker, key: str) -> Iterator[None]:
    """A server that announces itself, accepts whoever calls, and answers with bytes that mean nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    session = base.connect_with_retry(("127.0.0.1", tracker.port))
    session.sendall(base.RPC_TRACKER_MAGIC.to_bytes(4, "little"))
    base.recvall(session, 4)
    for question in (
        [base.TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": ("127.0.0.1", port)}],
        [base.TrackerCode.PUT, key, (port, f"{key}:0.5"), None],
    ):
        base.sendjson(session, question)
        base.recvjson(session)

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.recv(1000)
                connection.sendall(b"\x00" * 4 + b"nonsense" * 100)
                connection.close()

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield
    finally:
        listening.close()
        session.close()


def test_descriptions_come_back_and_nonsense_does_not() -> None:
    told = _description()
    assert Description.from_json(told.to_json()) == told
    for text in (
        "[]",
        "{}",
        told.to_json().replace("3000000000.0", "1e30"),
        told.to_json().replace('"lanes"', '"x"'),
    ):
        with pytest.raises(ValueError, match=r"."):
            Description.from_json(text)
