import gc
import itertools
import time

import pytest

from tvm_fastconv.measure import timing
from tvm_fastconv.measure.timing import Timing, interleave


def test_callables_take_turns():
    order = []
    interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, min_time=0.0)
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["a", "b"] + ["a", "b"] * 3  # warm-up, then one turn each


def test_sample_is_the_mean_of_a_turns_timed_calls(monkeypatch):
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls = []
    result = interleave({"a": lambda: calls.append(0)}, repeats=2, min_time=1.0)["a"]
    assert result.calls == 4
    assert result.samples == (0.0625, 0.0625)
    assert len(calls) == timing.WARM_UP_CALLS + 2 * (1 + 4)  # each turn starts with an untimed call


def test_time_is_measured():
    result = interleave({"sleep": lambda: time.sleep(0.002)}, repeats=3, min_time=0.004)["sleep"]
    assert 0.002 <= result.best <= result.median


def test_garbage_collection_is_off_while_timing_only():
    states = []
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: states.append(gc.isenabled()) or 1 / (len(states) < 6)}, 3, 0.0)
    assert states == [True] * timing.WARM_UP_CALLS + [False] * (6 - timing.WARM_UP_CALLS)
    assert gc.isenabled()


def test_statistics():
    result = Timing((1.0, 2.0, 3.0, 4.0, 10.0), calls=1)
    assert (result.median, result.best) == (3.0, 1.0)
    assert result.spread == pytest.approx(2.0 / 3.0)
    assert Timing((1.0,), calls=1).spread == 0.0
