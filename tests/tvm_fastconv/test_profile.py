import itertools
import json

import numpy as np
import pytest

from tvm_fastconv.artifact import amend_manifest
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.manifest import CallRecord
from tvm_fastconv.profile import CallTime, Profile
from tvm_fastconv.runtime import load

from ..close import assert_close


@pytest.fixture(scope="module")
def slow(matmul_chain, build, tmp_path_factory):
    """Three products, the second twenty times the others, of some milliseconds in all; no schedule."""
    rng = np.random.default_rng(0)
    sizes = [(200, 200), (200, 4000), (4000, 10)]
    weights = [rng.standard_normal(size).astype("float32") for size in sizes]
    path = tmp_path_factory.mktemp("slow") / "slow.so"
    mod = matmul_chain(weights, 20)
    build(mod, path, calls=[("matmul", "first"), ("matmul1", "second"), ("matmul2", None)])
    return path, rng.standard_normal((20, 200)).astype("float32")


def test_layers_add_up_to_the_whole(slow):
    path, x = slow
    profile = load(path, threads=1).profile(x)
    assert list(profile.layers) == ["first", "second", "matmul2"]
    assert profile.total_ms >= 5
    assert profile.layers["second"] > 5 * profile.layers["first"]
    assert sum(profile.layers.values()) == pytest.approx(profile.total_ms, rel=0.1)


def test_equal_layers_are_told_apart_and_the_model_stays_as_it_was(chain):
    model = load(chain.path)
    profile = model.profile(chain.x, repeat=3)
    assert [call.function for call in profile.calls] == ["matmul"] * 4
    assert list(profile.layers) == ["layer0", "layer1", "layer2", "layer3"]
    assert_close(model(chain.x), chain.y, 2e-6)  # four float32 sums of 8 terms in another order


def test_trace(slow, tmp_path):
    path, x = slow
    profile = load(path, threads=1).profile(x, repeat=1)
    profile.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["first", "second", "matmul2"]
    assert events[0]["ts"] == 0
    for event, after in itertools.pairwise(events):
        assert 0 < event["dur"] <= after["ts"] - event["ts"]


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
