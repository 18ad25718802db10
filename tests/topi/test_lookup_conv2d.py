import numpy as np
import pytest
import torch
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.lookup_conv2d import LookupProblem, lookup_conv2d, lookup_conv2d_reference
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.lookup import LookupKnobs
from tvm_fastconv.topi.sparse_lists import Slab, SparseFilters

from ..close import assert_close
from .run_operator import each_isa, machine, run_primfunc

# Sums of up to a few hundred float32 products in another order.
TOLERANCE = 2e-6


def _sparse(params: Conv2dParams, channels: int, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (params.out_channels, channels // params.groups, *params.kernel)
    return rng.standard_normal(shape, np.float32) * (rng.random(shape) < density)


def _torch(data: np.ndarray, weight: np.ndarray, params: Conv2dParams) -> np.ndarray:
    top, left, bottom, right = params.padding
    padded = torch.nn.functional.pad(torch.from_numpy(data).double(), (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        padded, torch.from_numpy(weight).double(), None, params.stride, 0, params.dilation, params.groups
    )
    return out.float().numpy()


def _problem(params: Conv2dParams, shape: tuple[int, int, int, int], nonzeros: int) -> LookupProblem:
    n, c, h, w = shape
    return LookupProblem(batch=n, height=h, width=w, channels=c, conv=params, nonzeros=nonzeros)


def _default(
    params: Conv2dParams, shape: tuple[int, int, int, int], weight: np.ndarray, isa: str
) -> LookupKnobs:
    knobs = LookupKnobs.default(_problem(params, shape, int(np.count_nonzero(weight))), machine(isa))
    assert knobs is not None
    return knobs


def _run(
    data: np.ndarray,
    weight: np.ndarray,
    params: Conv2dParams,
    knobs: LookupKnobs,
    isa: str,
    batch: int | tvm.tirx.Var | None = None,
) -> np.ndarray:
    n, c, h, w = data.shape
    oh, ow = params.output_size(h, w)
    filters = SparseFilters.of(weight, params, Slab.of(params, c, ow, knobs), knobs.block)
    attrs = {"fastconv.op": "lookup_conv2d", "fastconv.knobs": knobs.to_json()}
    func = lookup_conv2d((n if batch is None else batch, c, h, w), filters, params, knobs, attrs)
    arrays = [data, filters.offsets, filters.coefficients, filters.first]
    shape = [n, params.out_channels, oh, ow]
    return run_primfunc(schedule_primfunc(func, machine(isa)), arrays, shape, "float32", isa)


CASES: dict[str, tuple[Conv2dParams, tuple[int, int, int, int], float]] = {
    "3x3": (Conv2dParams(kernel=(3, 3), out_channels=24, padding=(1, 1, 1, 1)), (1, 40, 14, 14), 0.1),
    "wide": (Conv2dParams(kernel=(3, 3), out_channels=5, padding=(1, 1, 1, 1)), (1, 3, 9, 150), 0.3),
    "stride 4": (
        Conv2dParams(kernel=(11, 11), out_channels=8, stride=(4, 4), padding=(2, 2, 2, 2)), (2, 3, 47, 35), 0.1,
    ),
    "asymmetric": (
        Conv2dParams(kernel=(2, 5), out_channels=7, stride=(1, 3), padding=(0, 3, 1, 2)), (2, 6, 7, 11), 0.2,
    ),
    "dilated": (
        Conv2dParams(kernel=(3, 3), out_channels=8, dilation=(2, 3), stride=(1, 2), padding=(2, 3, 2, 3)),
        (1, 6, 10, 12), 0.2,
    ),
    "groups": (
        Conv2dParams(kernel=(3, 3), out_channels=12, groups=3, padding=(1, 1, 1, 1)), (1, 9, 8, 8), 0.3,
    ),
    "no coefficients": (Conv2dParams(kernel=(3, 3), out_channels=4, padding=(1, 1, 1, 1)), (1, 4, 6, 6), 0.0),
    "dense": (Conv2dParams(kernel=(3, 3), out_channels=4), (1, 4, 6, 6), 1.0),
    "one atom": (Conv2dParams(kernel=(3, 3), out_channels=4, padding=(1, 1, 1, 1)), (1, 1, 5, 5), 0.5),
    "plane smaller than the kernel": (
        Conv2dParams(kernel=(5, 5), out_channels=4, padding=(2, 2, 2, 2)), (1, 8, 2, 3), 0.5,
    ),
    "1x1": (Conv2dParams(kernel=(1, 1), out_channels=9), (3, 16, 7, 7), 0.2),
}  # fmt: skip


@each_isa
@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch(name: str, isa: str) -> None:
    params, shape, density = CASES[name]
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    weight = _sparse(params, shape[1], density)
    want = _torch(data, weight, params)
    assert_close(lookup_conv2d_reference(data, weight, params), want, TOLERANCE)
    knobs = _default(params, shape, weight, isa)
    got = _run(data, weight, params, knobs, isa)
    assert_close(got, want, TOLERANCE)


def test_filters_without_coefficients_are_exactly_zero() -> None:
    params, shape, _ = CASES["3x3"]
    weight = _sparse(params, shape[1], 0.1)
    weight[[0, 7, 23]] = 0
    weight[5] = 0
    weight[5, 39, 2, 2] = 1.5  # a single one
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    knobs = _default(params, shape, weight, "avx2")
    got = _run(data, weight, params, knobs, "avx2")
    assert (got[:, [0, 7, 23]] == 0).all()
    np.testing.assert_array_equal(got[0, 5, :-1, :-1], 1.5 * data[0, 39, 1:, 1:])


KNOBS = [
    LookupKnobs(lanes=8, vectors=1, rows=2, strip=1, block=3, chunks=1),
    LookupKnobs(lanes=8, vectors=2, rows=1, strip=3, block=40, chunks=2),
    LookupKnobs(lanes=4, vectors=2, rows=5, strip=2, block=7, chunks=8),
    LookupKnobs(lanes=16, vectors=1, rows=14, strip=1, block=1, chunks=4),
]


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("name", ["3x3", "stride 4"])
def test_any_tile_is_right(name: str, knobs: LookupKnobs) -> None:
    params, shape, density = CASES[name]
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    weight = _sparse(params, shape[1], density)
    want = _torch(data, weight, params)
    got = _run(data, weight, params, knobs, "avx512")
    assert_close(got, want, TOLERANCE)


@st.composite
def _geometries(draw: st.DrawFn) -> tuple[Conv2dParams, tuple[int, int, int, int], float]:
    pair = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    kernel, dilation, groups = pair(1, 5), pair(1, 2), draw(st.integers(1, 3))
    padding = draw(st.tuples(*[st.integers(0, 4)] * 4))
    params = Conv2dParams(
        kernel=kernel, dilation=dilation, stride=pair(1, 3), padding=padding, groups=groups,
        out_channels=groups * draw(st.integers(1, 6)),
    )  # fmt: skip
    smallest = [
        max(1, (k - 1) * d + 1 - padding[i] - padding[i + 2])
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    height, width = (least + draw(st.integers(0, 20)) for least in smallest)
    shape = (draw(st.integers(1, 2)), groups * draw(st.integers(1, 9)), height, width)
    return params, shape, draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))


@given(_geometries(), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_any_geometry(case: tuple[Conv2dParams, tuple[int, int, int, int], float], seed: int) -> None:
    params, shape, density = case
    data = np.random.default_rng(seed).standard_normal(shape, np.float32)
    weight = _sparse(params, shape[1], density, seed)
    knobs = _default(params, shape, weight, "avx2")
    want = _torch(data, weight, params)
    got = _run(data, weight, params, knobs, "avx2")
    assert_close(got, want, TOLERANCE)


def test_symbolic_batch() -> None:
    params, shape, density = CASES["3x3"]
    data = np.random.default_rng(1).standard_normal((3, *shape[1:]), np.float32)
    weight = _sparse(params, shape[1], density)
    knobs = LookupKnobs.default(_problem(params, shape, 100), machine("avx2"))
    assert knobs is not None
    got = _run(data, weight, params, knobs, "avx2", tvm.tirx.Var("n", "int64"))
    want = _torch(data, weight, params)
    assert_close(got, want, TOLERANCE)


def test_more_coefficients_cost_more_and_tiles_fit_the_registers() -> None:
    params, shape, _ = CASES["3x3"]
    costs = []
    for nonzeros in (100, 1000, 5000):
        problem = _problem(params, shape, nonzeros)
        knobs = LookupKnobs.default(problem, machine("avx512"))
        assert knobs is not None
        assert knobs.rows * knobs.vectors <= 28
        costs.append(knobs.cycles(problem, machine("avx512")))
    assert costs == sorted(costs)
    assert costs[2] > 5 * costs[0]
