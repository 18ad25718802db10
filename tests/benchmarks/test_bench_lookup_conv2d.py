import importlib.util
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from benchmarks import bench_lookup_conv2d as bench
from benchmarks import bench_networks, lookup_networks, runner
from benchmarks.bench_conv2d import Layer

# Ours for AVX2, whatever this processor has: which form runs is asserted.
SETTINGS = runner.Settings(engines=("fastconv", "torch"), repeats=2, min_time=0.001, isa="avx2")


def _point(density, chosen, lookup):
    return bench.Point(density=density, op="x", nonzero_bytes=6.0, chosen_ms=chosen, lookup_ms=lookup)


def test_pruning_keeps_the_largest_weights():
    conv, _ = bench.make_pruned(Layer(3, 1, 16, 16, 8), 0.1)
    dense, _ = bench.make_pruned(Layer(3, 1, 16, 16, 8), 1.0)
    kept = conv.weight != 0
    assert kept.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert dense.weight[kept].abs().min() > dense.weight[~kept].abs().max()


def test_both_forms_are_timed_beside_the_dense_engines():
    curve = bench.measure(Layer(3, 1, 32, 32, 14), SETTINGS, (0.05, 0.5))
    assert curve.best_rival == "torch"
    assert [point.density for point in curve.points] == [0.05, 0.5]
    assert curve.points[0].op == "lookup_conv2d"
    assert 6 <= curve.points[1].nonzero_bytes < curve.points[0].nonzero_bytes < 8
    assert curve.ratio(0.05) == curve.dense_ms / curve.points[0].chosen_ms


def test_break_even_ends_where_lookups_are_first_slower():
    points = (_point(0.1, 1, 1), _point(0.2, 1, 1.9), _point(0.3, 1, 2.1), _point(0.4, 1, 1.9))
    assert bench.Curve(layer="x", best_rival="torch", dense_ms=2.0, points=points).break_even == 0.2


def test_curves_are_drawn(tmp_path):
    curve = bench.Curve(layer="x", best_rival="torch", dense_ms=2.0, points=(_point(0.1, 1, 1),))
    bench.draw([curve, curve], tmp_path / "plot.svg", "title")
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


def test_lookup_layers_have_their_dictionary_and_density():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        atoms, sparse = lookup_networks.lookup_conv2d(64, 96, 5, 1, 2, 30, 0.05)
    assert (atoms.bias, atoms.padding, sparse.padding) == (None, (2, 2), (0, 0))
    assert (sparse.weight != 0).float().mean().item() == pytest.approx(0.05, abs=0.01)


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_rivals_run_the_dense_network():
    case = bench_networks.lookup_case("lcnn_resnet18", 1)
    ours, _ = case.make()
    dense, inputs = case.make_dense()
    with torch.no_grad():
        assert ours(*inputs).shape == dense(*inputs).shape == (1, 1000)
    assert case.facts["rivals_run"] == "resnet18"
    assert sum((m.weight == 0).any().item() for m in ours.modules() if isinstance(m, torch.nn.Conv2d)) == 16
