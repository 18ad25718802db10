import numpy as np
import pytest
import tvm

from tvm_fastconv.topi.bitpack import Thresholds, bitpack_reference, flip_words, threshold_rows
from tvm_fastconv.topi.bitpack_planar import (
    PlanarKnobs,
    PlanarProblem,
    bitpack_planar,
    bitpack_planar_reference,
)

from .run_operator import each_isa, machine, run_primfunc

SHAPES = {
    "whole": ((2, 64, 8, 8), 1),
    "overlapping tiles": ((1, 32, 7, 7), 1),
    "short word": ((1, 33, 5, 9), 1),
    "few channels": ((3, 5, 4, 4), 1),
    "groups": ((2, 80, 3, 7), 2),
    "many words": ((1, 200, 6, 6), 1),
}


def _thresholds(channels: int, flips: bool) -> Thresholds:
    rng = np.random.default_rng(1)
    at = rng.standard_normal(channels).astype(np.float32)
    at[0] = 0.0
    return Thresholds(at=at, flip=rng.random(channels) < (0.5 if flips else 0))


@pytest.mark.parametrize("flips", [False, True])
@each_isa
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_reference(name: str, isa: str, flips: bool) -> None:
    (n, c, h, w), groups = SHAPES[name]
    how = _thresholds(c, flips)
    data = np.random.default_rng(0).standard_normal((n, c, h, w), np.float32)
    data.reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    want = bitpack_planar_reference(data, how, groups)
    np.testing.assert_array_equal(want, bitpack_reference(data.transpose(0, 2, 3, 1), how, groups))
    arrays = [data, threshold_rows(how.at, groups)] + ([flip_words(how.flip, groups)] if flips else [])
    problem = PlanarProblem(batch=n, channels=c, height=h, width=w, groups=groups, flips=flips)
    knobs = PlanarKnobs.default(problem, machine(isa))
    assert knobs is not None
    func = bitpack_planar((n, c, h, w), groups, flips, knobs)
    np.testing.assert_array_equal(run_primfunc(func, arrays, list(want.shape), "uint32", isa), want)


def test_symbolic_batch() -> None:
    how = _thresholds(40, False)
    data = np.random.default_rng(0).standard_normal((3, 40, 5, 6), np.float32)
    knobs = PlanarKnobs.default(PlanarProblem(channels=40, height=5, width=6), machine("avx2"))
    assert knobs is not None
    func = bitpack_planar((tvm.tirx.Var("n", "int64"), 40, 5, 6), 1, False, knobs)
    got = run_primfunc(func, [data, threshold_rows(how.at, 1)], [3, 5, 6, 2], "uint32", "avx2")
    np.testing.assert_array_equal(got, bitpack_planar_reference(data, how))


@pytest.mark.parametrize(("plane", "vectors"), [((56, 56), 4), ((14, 14), 1), ((7, 7), 2), ((3, 5), None)])
def test_few_pixels_are_packed_twice(plane: tuple[int, int], vectors: int | None) -> None:
    problem = PlanarProblem(channels=32, height=plane[0], width=plane[1])
    knobs = PlanarKnobs.default(problem, machine("avx512"))
    assert knobs == (None if vectors is None else PlanarKnobs(lanes=16, vectors=vectors))
