import itertools
from collections.abc import Callable

import pytest

from tvm_fastconv.relay_passes.dense.direct_plan import plan_direct
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import GENERIC
from tvm_fastconv.topi.planner import Plan, Planner
from tvm_fastconv.topi.schedules.cpu.grouped import GroupedKnobs
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ...processors import ROWS

MACHINES = {level.machine.name: level.machine for level in GENERIC} | {"znver4": ROWS["znver4"]}


def _problem(groups: int, inputs: int, outputs: int, kernel: int, plane: tuple[int, int]) -> ConvProblem:
    around = (kernel // 2,) * 4
    params = Conv2dParams(
        kernel=(kernel, kernel), out_channels=groups * outputs, padding=around, groups=groups
    )
    return ConvProblem(height=plane[0], width=plane[1], channels=groups * inputs, conv=params)


def _plan(
    machine: str, groups: int, inputs: int, outputs: int, kernel: int = 3, plane: tuple[int, int] = (28, 28)
) -> Plan[TileKnobs]:
    return plan_direct(Planner(MACHINES[machine]), _problem(groups, inputs, outputs, kernel, plane))


def _largest_first(knobs: TileKnobs, _problem: object, _machine: Machine) -> float:
    """An estimate that prefers the tiles with most to fill up."""
    rows, columns = knobs.round_up(8, 8)
    return -rows * columns * knobs.panel


@pytest.mark.parametrize("estimate", [None, _largest_first])
@pytest.mark.parametrize("machine", MACHINES)
def test_never_more_than_twice_the_work(
    machine: str, estimate: Callable[..., float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (TileKnobs, GroupedKnobs) if estimate else ():
        monkeypatch.setattr(kind, "cycles", estimate)
    widths = (1, 2, 3, 5, 7, 8, 9, 12, 17, 20, 24, 33, 40)
    planes = ((1, 1), (2, 3), (5, 7))
    for outputs, groups, plane in itertools.product(widths, (2, 13), planes):
        plan = _plan(machine, groups, 4, outputs, plane=plane)
        joined = _problem(1, 4, groups * outputs, 3, plane)
        assert plan.knobs.work(joined.loops) <= 2, (outputs, groups, plane)
        assert plan.op == "grouped_conv2d" or outputs % plan.knobs.panel == 0


def test_work_counts_what_fills_tiles_up() -> None:
    knobs = TileKnobs(lanes=8, vectors=2, tile_h=2, tile_w=4, strip=2, chunks=1)
    # 24 channels take two panels of 16; 5 rows two strips of four; 6 columns two tiles of four.
    assert knobs.work(_problem(1, 4, 24, 3, (5, 6)).loops) == (32 * 8 * 8) / (24 * 5 * 6)


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
        ("sse", 2, "grouped_conv2d", 4),
        ("sse", 12, "conv2d", 4),
    ],
)
def test_whole_vectors_where_the_width_allows(machine: str, width: int, op: str, lanes: int) -> None:
    plan = _plan(machine, 13, width, width)
    assert (plan.op, plan.knobs.lanes) == (op, lanes)


def test_cycles_count_every_group() -> None:
    assert _plan("avx2", 26, 8, 8).cycles == pytest.approx(2 * _plan("avx2", 13, 8, 8).cycles)


def test_one_group_is_a_plain_convolution() -> None:
    assert _plan("znver4", 1, 8, 8).op == "conv2d"
