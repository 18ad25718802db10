import itertools
from collections.abc import Callable

import pytest

from tvm_fastconv.relay_passes.dense import direct_plan
from tvm_fastconv.relay_passes.dense.direct_plan import DirectPlan, plan_direct, work
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.grouped import GroupedProblem
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs, TileProblem

MACHINES = {
    "sse4": Machine(lanes=4, registers=16),
    "avx2": Machine(lanes=8, registers=16),
    "avx512": Machine(lanes=16, registers=32),
    "znver4": Machine(lanes=16, registers=32, half_vector_cost=0.5),
}


def _problem(groups: int, inputs: int, outputs: int, kernel: int, plane: tuple[int, int]) -> TileProblem:
    reduction = inputs * kernel**2
    return TileProblem(
        batch=1, height=plane[0], width=plane[1], out_channels=outputs, groups=groups, reduction=reduction,
        strip_row_bytes=4 * plane[1] * groups * inputs, weight_bytes=4 * groups * outputs * reduction,
    )  # fmt: skip


def _plan(
    machine: str, groups: int, inputs: int, outputs: int, kernel: int = 3, plane: tuple[int, int] = (28, 28)
) -> DirectPlan:
    params = Conv2dParams(kernel=(kernel, kernel), out_channels=groups * outputs, groups=groups)
    return plan_direct(_problem(groups, inputs, outputs, kernel, plane), params, MACHINES[machine])


def _largest_first(problem: TileProblem | GroupedProblem, knobs: TileKnobs, machine: Machine) -> float:
    """An estimate that prefers the tiles with most to fill up."""
    rows, columns = knobs.round_up(8, 8)
    return -rows * columns * knobs.panel


@pytest.mark.parametrize("estimate", [None, _largest_first])
@pytest.mark.parametrize("machine", MACHINES)
def test_never_more_than_twice_the_work(
    machine: str, estimate: Callable[..., float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cycles", "grouped_cycles") if estimate else ():
        monkeypatch.setattr(direct_plan, name, estimate)
    widths = (1, 2, 3, 5, 7, 8, 9, 12, 17, 20, 24, 33, 40)
    planes = ((1, 1), (2, 3), (5, 7))
    for outputs, groups, plane in itertools.product(widths, (2, 13), planes):
        plan = _plan(machine, groups, 4, outputs, plane=plane)
        problem = _problem(1, 4, groups * outputs, 3, plane)
        assert work(problem, plan.knobs) <= 2, (outputs, groups, plane)
        assert plan.op == "grouped_conv2d" or outputs % plan.knobs.panel == 0


def test_work_counts_what_fills_tiles_up() -> None:
    knobs = TileKnobs(lanes=8, vectors=2, tile_h=2, tile_w=4, strip=2, chunks=1)
    # 24 channels take two panels of 16; 5 rows two strips of four; 6 columns two tiles of four.
    assert work(_problem(1, 4, 24, 3, (5, 6)), knobs) == (32 * 8 * 8) / (24 * 5 * 6)


@pytest.mark.parametrize(
    ("machine", "width", "op", "lanes"),
    [
        ("znver4", 8, "grouped_conv2d", 8),
        ("znver4", 24, "conv2d", 8),
        ("znver4", 40, "conv2d", 8),
        ("avx512", 8, "grouped_conv2d", 16),
        ("avx512", 24, "grouped_conv2d", 16),
        ("avx512", 16, "conv2d", 16),
        ("avx2", 12, "grouped_conv2d", 8),
        ("avx2", 40, "conv2d", 8),
        ("sse4", 2, "grouped_conv2d", 4),
        ("sse4", 12, "conv2d", 4),
    ],
)
def test_whole_vectors_where_the_width_allows(machine: str, width: int, op: str, lanes: int) -> None:
    plan = _plan(machine, 13, width, width)
    assert (plan.op, plan.knobs.lanes) == (op, lanes)


def test_cycles_count_every_group() -> None:
    assert _plan("avx2", 26, 8, 8).cycles == pytest.approx(2 * _plan("avx2", 13, 8, 8).cycles)


def test_one_group_is_a_plain_convolution() -> None:
    assert _plan("znver4", 1, 8, 8).op == "conv2d"
