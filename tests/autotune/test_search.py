"""How fast the search of one task finds the best of its space, in a landscape that the estimate does not know."""

import dataclasses
import math
import statistics

import pytest

from tvm_fastconv.autotune.candidate import Candidate
from tvm_fastconv.autotune.cost_model import MIN_TRIALS, CostModel
from tvm_fastconv.autotune.features import features
from tvm_fastconv.autotune.search import POOL, Search

from .fake import DEVICE, landscape, task

TASKS = ["conv2d", "winograd_conv2d", "bitserial_conv2d", "lookup_conv2d", "dense", "depthwise_conv2d"]
BATCH = 8


def _search(name: str, trials: int, seed: int = 0, guided: bool = True) -> tuple[Search, list[float]]:
    """A search after so many trials, and the best time after each."""
    search, model = Search(task(name), DEVICE, seed, guided), CostModel(DEVICE)
    best = []
    while len(search.times) < trials and not search.exhausted:
        for candidate in search.propose(min(BATCH, trials - len(search.times)), model if guided else None):
            seconds = landscape(candidate)
            search.observe(candidate.knobs, seconds)
            model.observe(candidate, seconds, candidate.knobs == search.default)
            best.append(search.seconds)
        model.fit()
    return search, best


def _optimum(search: Search) -> float:
    return min(landscape(Candidate(search.task, knobs)) for knobs in search.space)


@pytest.mark.parametrize("name", TASKS)
def test_sixty_four_trials_come_within_three_percent_of_the_best(name: str) -> None:
    search, _ = _search(name, 64)
    assert search.seconds <= 1.03 * _optimum(search)


@pytest.mark.parametrize("name", ["conv2d", "bitserial_conv2d"])
def test_the_model_needs_half_the_trials_of_chance(name: str) -> None:
    search, _ = _search(name, 1)
    goal = _optimum(search) / 0.95

    def needed(guided: bool, seed: int) -> int:
        _, best = _search(name, 160, seed, guided)
        return next((place + 1 for place, seconds in enumerate(best) if seconds <= goal), len(best) + 1)

    guided, random = (statistics.median(needed(way, seed) for seed in range(5)) for way in (True, False))
    assert guided <= random / 2


def test_the_default_is_the_first_trial() -> None:
    for name in TASKS:
        search = Search(task(name), DEVICE)
        assert search.propose(4, None)[0].knobs == search.default


@pytest.mark.parametrize("guided", [True, False])
def test_nothing_is_proposed_twice_and_everything_is_at_last(guided: bool) -> None:
    search = Search(task("depthwise_conv2d"), DEVICE, guided=guided)
    seen = []
    while not search.exhausted:
        batch = search.propose(7, None)
        assert batch
        seen += [candidate.knobs for candidate in batch]
        for candidate in batch:
            search.observe(candidate.knobs, None if len(seen) % 3 else landscape(candidate))
    assert len(seen) == len(set(seen)) == len(search.space)
    assert search.propose(7, None) == []


def test_all_that_is_proposed_is_legal_also_by_evolution() -> None:
    search = Search(task("lookup_conv2d"), DEVICE)
    assert len(search.space) > POOL, "this space is too small for evolution"
    kind = type(search.default)
    legal = set(kind.space(search.task.problem, DEVICE.machine))
    model = CostModel(DEVICE)
    for _ in range(4):
        for candidate in search.propose(8, model):
            assert candidate.knobs in legal
            search.observe(candidate.knobs, landscape(candidate))
            model.observe(candidate, landscape(candidate), candidate.knobs == search.default)
        model.fit()


def test_what_failed_is_never_the_best() -> None:
    search = Search(task("dense"), DEVICE)
    search.observe(search.default, None)
    other = next(knobs for knobs in search.space if knobs != search.default)
    search.observe(other, 1.0)
    assert (search.best, search.seconds, search.fastest(5)) == (other, 1.0, [other])


def test_the_same_seed_searches_alike() -> None:
    assert _search("conv2d", 40, seed=3)[1] == _search("conv2d", 40, seed=3)[1]


def test_a_new_shape_starts_from_its_neighbours() -> None:
    """With the trials of another shape, the model orders knobs of a new one better than chance, before any trial."""
    model, known = CostModel(DEVICE), Search(task("conv2d"), DEVICE, guided=False)
    for candidate in [Candidate(known.task, known.default), *known.propose(80, None)]:
        model.observe(candidate, landscape(candidate), candidate.knobs == known.default)
    model.fit()
    fresh = Search(task("conv2d, odd"), DEVICE, seed=1, guided=False)
    sample = fresh.propose(120, None)
    predicted = model.predict(sample)
    assert predicted is not None
    order = sorted(range(len(sample)), key=lambda place: predicted[place])
    half = len(order) // 2
    fast, slow = (
        statistics.median(landscape(sample[i]) for i in part) for part in (order[:half], order[half:])
    )
    assert fast < 0.8 * slow


def test_features_of_sparse_lists_tell_what_knobs_come_to_on_this_layer() -> None:
    search = Search(task("lookup_conv2d"), DEVICE)
    knobs = dataclasses.replace(search.default, lanes=8, vectors=1, rows=2, strip=2, block=6, chunks=4)
    found = features(Candidate(search.task, knobs), DEVICE)
    # 9 rows in strips of 4, 11 columns in tiles of 8; 24 channels in blocks of 6, 300 coefficients of 40 filters.
    assert (found["row waste"], found["column waste"]) == (12 / 9, 16 / 11)
    assert found["coefficients of a visit"] == pytest.approx(math.log2(1 + 300 / (40 * 4)))
    assert found["tasks"] == pytest.approx(math.log2(1 + 2 * 3 * 4))


def test_a_model_that_knows_nothing_says_so() -> None:
    model, search = CostModel(DEVICE), Search(task("conv2d"), DEVICE)
    candidates = search.propose(MIN_TRIALS + 1, None)
    assert model.predict(candidates) is None
    for candidate in candidates[1:]:
        model.observe(candidate, landscape(candidate), is_default=False)
    model.fit()
    assert model.predict(candidates) is None, "without a default there is nothing to compare with"
    model.observe(candidates[0], landscape(candidates[0]), is_default=True)
    model.fit()
    assert model.predict(candidates) is not None
