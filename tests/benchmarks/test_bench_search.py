"""Searches replayed on made-up landscapes; the times are those of `tests/autotune/fake.py`."""

import json
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from benchmarks import bench_search, search_plots
from benchmarks.search_landscapes import (
    REPEATED,
    ROUNDS,
    append,
    conditions,
    load,
    measure,
    members,
    read,
)
from benchmarks.search_layers import first_layers, second_layers
from benchmarks.search_replay import (
    QUALITIES,
    TRIALS,
    WAYS,
    Replay,
    judge,
    judge_taught,
    rank_correlation,
    replay,
    summary,
)

from ..autotune.fake import DEVICE, FakeRunner, task
from ..autotune.fake import landscape as seconds_of
from ..topi.operator_cases import CASES

LAYERS = {name: CASES[name] for name in ("dense", "conv2d")}
SAMPLE = 90


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "landscapes.jsonl"
    for number in range(ROUNDS):
        measure(LAYERS, SAMPLE, FakeRunner(), path, number)
    return load(LAYERS, SAMPLE, DEVICE, path)


def test_the_layers_differ_and_their_operators_do_not():
    first, second = first_layers(), second_layers()
    assert len(first) == len(second) == 8
    assert [op for op, _ in first.values()] == [op for op, _ in second.values()]
    keys = [(op, problem.key) for op, problem in (*first.values(), *second.values())]
    assert len(set(keys)) == 16


def test_large_spaces_are_sampled_and_small_ones_are_whole():
    some, legal = members(task("conv2d"), DEVICE, SAMPLE)
    assert len(set(some)) == SAMPLE < legal
    whole, legal = members(task("dense"), DEVICE, SAMPLE)
    assert len(set(whole)) == legal
    assert members(task("conv2d"), DEVICE, SAMPLE)[0] == some, "another sample each time"


def test_measuring_goes_on_where_it_stopped(tmp_path):
    path, runner = tmp_path / "landscapes.jsonl", FakeRunner()
    some, _ = members(task("conv2d"), DEVICE, SAMPLE)
    path.write_text(json.dumps({"conditions": {"cpu": "a core"}}) + "\n")
    append(path, "conv2d", [(knobs, 1.0) for knobs in some[:60]])
    measure({"conv2d": CASES["conv2d"]}, SAMPLE, runner, path, 0)
    assert [candidate.knobs for candidate in runner.tried] == some[60:]
    measure({"conv2d": CASES["conv2d"]}, SAMPLE, runner, path, 0)
    assert len(runner.tried) == SAMPLE - 60
    assert conditions(path) == [{"cpu": "a core"}]


def test_another_default_adds_but_itself(tmp_path):
    path, runner = tmp_path / "landscapes.jsonl", FakeRunner()
    (default, *others), _ = members(task("conv2d"), DEVICE, SAMPLE)
    append(path, "conv2d", [(knobs, 1.0) for knobs in others])
    more, _ = members(task("conv2d"), DEVICE, len(others) + 20)
    append(path, "conv2d", [(knobs, 1.0) for knobs in set(more) - {default, *others}])
    measure({"conv2d": CASES["conv2d"]}, SAMPLE, runner, path, 0)
    assert [candidate.knobs for candidate in runner.tried] == [default]
    (found,) = load({"conv2d": CASES["conv2d"]}, SAMPLE, DEVICE, path)
    assert set(found.times) == {*more, *others}


def test_later_rounds_repeat_the_fastest_and_the_least_time_counts(tmp_path):
    path, layers = tmp_path / "landscapes.jsonl", {"conv2d": CASES["conv2d"]}
    measure(layers, SAMPLE, FakeRunner(), path, 0)
    measure(layers, SAMPLE, FakeRunner(lambda candidate: 0.9 * seconds_of(candidate)), path, 1)
    (found,) = load(layers, SAMPLE, DEVICE, path)
    repeated = [times for times in read(path)["conv2d"].values() if len(times) == 2]
    assert round(REPEATED * SAMPLE) <= len(repeated) <= round(REPEATED * SAMPLE) + 1
    assert found.noise == pytest.approx(1 / 0.9 - 1)
    assert found.best == min(min(times) for times in repeated)


def test_a_landscape_with_gaps_is_refused(tmp_path):
    with pytest.raises(LookupError, match="lacks 90 of 90 times of conv2d"):
        load({"conv2d": CASES["conv2d"]}, SAMPLE, DEVICE, tmp_path / "nothing.jsonl")


@pytest.mark.parametrize("way", WAYS)
def test_a_replay_reaches_the_qualities_and_asks_for_nothing_twice(landscapes, way):
    for landscape in landscapes:
        run = replay(landscape, DEVICE, 0, way=way, at_least=8)
        tried = [knobs for knobs, _ in run.trials]
        assert len(set(tried)) == len(tried)
        assert all(landscape.times[knobs] == seconds for knobs, seconds in run.trials)
        for quality in QUALITIES.values():
            needed = run.needed(landscape.best / quality)
            assert run.best(needed) <= landscape.best / quality < run.best(needed - 1)
        assert (tried[0] == landscape.default) == (way != "random")


def test_trials_are_counted_up_to_the_goal():
    run = Replay(((1, None), (2, 3.0), (3, 4.0), (4, 2.0)))
    assert [run.best(n) for n in range(1, 5)] == [math.inf, 3.0, 3.0, 2.0]
    assert (run.needed(3.0), run.needed(2.5)) == (2, 4)


def test_ratios_are_of_medians_over_seeds(landscapes):
    each = landscapes[1]
    fast, slow = (replay(each, DEVICE, seed, way="random", at_least=0) for seed in (1, 2))
    runs = {way: [fast, fast, slow] if way == "model" else [slow, slow, fast] for way in WAYS}
    row = judge(each, runs)
    for name, quality in QUALITIES.items():
        ratio = fast.needed(each.best / quality) / slow.needed(each.best / quality)
        assert ratio != 1
        assert row["ratios"][name] == dict.fromkeys(["estimate", "default, random", "random"], ratio)
        assert summary([row, row])[name]["all"]["random"] == pytest.approx(ratio)


def test_means_where_the_default_falls_short_leave_others_out():
    ratios = {name: {"random": 0.5} for name in QUALITIES}
    rows = [
        {"default": 0.97, "ratios": ratios},
        {"default": 0.9, "ratios": {n: {"random": 0.125} for n in ratios}},
    ]
    found = summary(rows)
    assert found["95 %"]["all"]["random"] == pytest.approx(0.25)
    assert found["95 %"]["short"]["random"] == pytest.approx(0.125)
    assert found["99 %"]["short"] == found["99 %"]["all"]
    assert summary(rows[:1])["95 %"]["short"] == {}


def test_a_model_that_knows_the_landscape_needs_fewer_trials(landscapes):
    known = [(each, [Replay(tuple(each.times.items())[:TRIALS])]) for each in landscapes]
    row = judge_taught(landscapes[1], DEVICE, known)
    assert row["ranks"]["taught"] > row["ranks"]["estimate"]
    for needed in row["needed"].values():
        assert needed["taught"][0] <= needed["alone"][0]


def test_figures_are_printed_and_drawn(landscapes, tmp_path, capsys):
    runs = [{way: [replay(each, DEVICE, 0, way=way)] for way in WAYS} for each in landscapes]
    rows = [judge(each, taken) for each, taken in zip(landscapes, runs, strict=True)]
    assert all(max(row["reached"]["model"]) <= 1 for row in rows)
    searched = [(each, taken["model"]) for each, taken in zip(landscapes, runs, strict=True)]
    second = [judge_taught(each, DEVICE, searched) for each in landscapes]
    bench_search.show({"first": rows, "second": second}, "title")
    assert "conv2d" in capsys.readouterr().out
    search_plots.draw_trials(landscapes, runs, tmp_path / "trials.svg", "title", 32)
    search_plots.draw_predictions(
        [(each, taken[0]) for each, taken in searched], DEVICE, tmp_path / "model.svg", "title"
    )
    for name in ("trials.svg", "model.svg"):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_ranks_are_compared_not_values():
    some = np.array([1.0, 2, 3])
    assert rank_correlation(some, np.array([1.0, 10, 100])) == pytest.approx(1)
    assert rank_correlation(some, np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(some, np.ones(3)) == 0
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([5.0, 5, 7])) == pytest.approx(1)
