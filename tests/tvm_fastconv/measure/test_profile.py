import itertools
import json
import re
from collections.abc import Callable

import numpy as np
import pytest

from tvm_fastconv.artifact.artifact import amend_manifest
from tvm_fastconv.artifact.manifest import CallRecord
from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.measure import profile as profile_module
from tvm_fastconv.measure.profile import CallTime, CallTimer, Profile, profile_calls
from tvm_fastconv.runtime.compiled_model import load

from ...close import assert_close


@pytest.fixture(scope="module")
def three(matmul_chain, build, tmp_path_factory):
    """Three products, the last of no layer; no schedule."""
    rng = np.random.default_rng(0)
    sizes = [(20, 20), (20, 400), (400, 10)]
    weights = [rng.standard_normal(size).astype("float32") for size in sizes]
    path = tmp_path_factory.mktemp("three") / "three.so"
    mod = matmul_chain(weights, 20)
    calls = (("matmul", "first"), ("matmul1", "second"), ("matmul2", None))
    build(mod, path, calls=[CallRecord(function=function, layer=layer) for function, layer in calls])
    return path, rng.standard_normal((20, 20)).astype("float32")


class _Scripted:
    """Stands for the virtual machine, on a clock that only its calls move on: seconds of each call, round by round."""

    def __init__(self, rounds: list[list[tuple[str, float]]], whole: list[float]) -> None:
        self.now, self._rounds, self._whole = 0.0, iter(rounds), iter(whole)

    def __getitem__(self, name: str) -> Callable[..., None]:
        return self._instrument if name == "set_instrument" else self._main

    def _instrument(self, recorder: Callable[..., None]) -> None:
        self._recorder = recorder

    def _main(self) -> None:
        for function, seconds in next(self._rounds):
            self._recorder(None, function, True, None)
            self.now += seconds
            self._recorder(None, function, False, None)

    def run(self) -> None:
        self.now += next(self._whole)


def test_a_profile_is_the_run_of_least_calls_and_the_shortest_whole_one(monkeypatch):
    warm_up, first, best, last = (
        [("f", a), ("reshape", 0.5), ("g", b), ("f", c)]
        for a, b, c in ((1, 1, 1), (2, 5, 1), (1, 3, 2), (9, 1, 1))
    )
    machine = _Scripted([warm_up, first, best, last], whole=[1, 10, 8, 9])
    monkeypatch.setattr(profile_module.time, "perf_counter", lambda: machine.now)
    calls = [CallRecord(function=f, layer=layer) for f, layer in (("f", "a"), ("g", None), ("f", "b"))]
    profile = profile_calls(machine.run, CallTimer(machine, "main", (), calls), repeat=3)
    assert profile.layers == {"a": 1000, "g": 3000, "b": 2000}
    assert [call.start_ms for call in profile.calls] == [0, 1500, 4500]
    assert profile.total_ms == 8000


def test_equal_layers_are_told_apart_and_the_model_stays_as_it_was(chain):
    model = load(chain.path)
    profile = model.profile(chain.x, repeat=3)
    assert [call.function for call in profile.calls] == ["matmul"] * 4
    assert list(profile.layers) == ["layer0", "layer1", "layer2", "layer3"]
    assert_close(model(chain.x), chain.y, 2e-6)  # four float32 sums of 8 terms in another order


def test_trace(three, tmp_path):
    path, x = three
    profile = load(path, threads=1).profile(x, repeat=1)
    profile.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["first", "second", "matmul2"]
    assert events[0]["ts"] == 0
    for event, after in itertools.pairwise(events):
        assert 0 < event["dur"] <= after["ts"] - event["ts"]


@pytest.mark.parametrize("repeat", [0, -1, 1.5, "3", None, True])
def test_a_number_of_runs_is_a_number(chain, repeat):
    with pytest.raises(
        InputError, match=re.escape(f"repeat is {repeat!r}; allowed: a whole number from 1 on")
    ):
        load(chain.path).profile(chain.x, repeat=repeat)


@pytest.mark.parametrize("name", ["a\0b", "no/trace.json", "x" * 300])
def test_a_trace_that_cannot_be_written(tmp_path, name):
    profile = Profile(calls=(CallTime(function="f", layer=None, start_ms=0.0, ms=1.0),), total_ms=1.0)
    with pytest.raises(ArtifactError, match="cannot write"):
        profile.write_trace(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_layer_called_twice_is_summed_in_the_order_of_its_first_call():
    times = [("f", "a", 1.0), ("g", None, 2.0), ("f", "a", 4.0)]
    calls = [CallTime(function=f, layer=layer, start_ms=0.0, ms=ms) for f, layer, ms in times]
    assert Profile(calls=tuple(calls), total_ms=7.0).layers == {"a": 5.0, "g": 2.0}


def test_a_manifest_that_lists_other_calls(chain, tmp_path):
    path = tmp_path / "m.so"
    load(chain.path).save(path)
    amend_manifest(path, calls=(CallRecord(function="matmul", layer=None),) * 3)
    with pytest.raises(ArtifactError, match="calls that were made are not the ones in the manifest"):
        load(path).profile(chain.x)
