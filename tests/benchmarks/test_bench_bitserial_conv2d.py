import json
from types import SimpleNamespace

import pytest

from benchmarks import bench_bitserial_conv2d as bench
from benchmarks import binary_layers
from benchmarks.bench_conv2d import Layer
from benchmarks.runner import OURS, Case, Measured, compare

LAYER = Layer(3, 1, 48, 40, 7)


def _timed(milliseconds):
    return Measured(status="ok", median_ms=milliseconds, best_ms=milliseconds, samples_ms=(milliseconds,) * 2)


def _row(**times):
    facts = {"macs": 2_000_000, "executed_macs": 3_000_000}
    return compare(Case(name="x", make=tuple, facts=facts), {name: _timed(ms) for name, ms in times.items()})


def test_executed_operations_are_those_of_whole_tiles():
    knobs = {"lanes": 16, "vectors": 2, "tile_h": 2, "tile_w": 4, "strip": 1, "chunks": 1}
    # 7 x 7 pixels in tiles of 2 x 4, 40 outputs in panels of 32, 48 channels in words of 32
    assert bench.executed_macs(LAYER, json.dumps(knobs), skips_rows=True) == 8 * 8 * 64 * 64 * 9
    one_row = json.dumps(knobs | {"tile_h": 1})
    assert bench.executed_macs(LAYER, one_row, skips_rows=False) == 7 * 8 * 64 * 64 * 9
    assert bench.executed_macs(LAYER, one_row, skips_rows=True) == (7 * 3 - 2) * 8 * 64 * 64 * 3
    assert LAYER.macs == 7 * 7 * 40 * 48 * 9


def test_each_kind_of_rival_has_its_ratio():
    row = _row(**{OURS: 2.0, "torch": 9.0, "openvino": 6.0, bench.BINARY: 3.0})
    assert bench.ratio_to(row, binary=False) == pytest.approx(3.0)
    assert bench.ratio_to(row, binary=True) == pytest.approx(1.5)
    assert bench.ratio_to(_row(**{OURS: 2.0, "torch": 9.0}), binary=True) is None


def test_shares_are_of_the_best_turn():
    shares = bench.shares_of(_row(**{OURS: 0.01, bench.BINARY: 0.02}), peak_gmacs=400.0)
    assert shares == pytest.approx({"peak_gmacs": 400, "nominal": 0.5, "executed": 0.75, bench.BINARY: 0.25})
    assert bench.shares_of(_row(**{OURS: 0.01}), 400.0)[bench.BINARY] is None


def test_an_engine_that_failed_has_a_reason_and_no_time():
    engine = SimpleNamespace(status="failed", detail="why", error=None, build_seconds=0.0)
    assert bench.timed(engine, None) == Measured(status="failed", detail="why")
    measured = bench.timed(engine, [3.0, 1.0, 2.0])
    assert (measured.median_ms, measured.best_ms, measured.samples_ms) == (2.0, 1.0, (3.0, 1.0, 2.0))


def test_no_sign_ever_sees_a_zero():
    module, (data,) = binary_layers.make_layers(Layer(3, 1, 4, 4, 6), 2)
    assert [name for name, _ in module.named_children() if name in binary_layers.CONVS] == ["first", "second"]
    assert set(module.second.weight.unique().tolist()) == {-1.0, 1.0}
    between = module.sign_second(module.first(module.sign_first(data)))
    assert set(between.unique().tolist()) == {-1.0, 1.0}


def test_rival_that_runs_slowly_is_refused(monkeypatch):
    class Slow:
        def __init__(self, *arguments, **options):
            pass

        def implementations(self):
            return ["ref_u1"]

    monkeypatch.setattr(binary_layers, "BinaryNetwork", Slow)
    module, (data,) = binary_layers.make_layers(LAYER, 1)
    with pytest.raises(RuntimeError, match="ref_u1"):
        binary_layers.build_rival(module, data, threads=1)
