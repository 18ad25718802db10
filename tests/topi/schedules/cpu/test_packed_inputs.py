"""Inputs that are loaded a vector at a time, as in-order cores want them: the same sums, in loops of another shape."""

import dataclasses

import pytest

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ....processors import ROWS
from ...operator_cases import CASES, assert_is_reference, random_knobs
from ...run_operator import machine, run_primfunc

ISA = "sse4"
MACHINE = dataclasses.replace(machine(ISA), packs_inputs=True)
FLOATS = [
    name for name, (op, _) in CASES.items() if op in ("conv2d", "dense", "batch_matmul", "winograd_conv2d")
]


def _pointwise(channels: int) -> ConvProblem:
    return ConvProblem(
        height=14, width=14, channels=channels, conv=Conv2dParams(kernel=(1, 1), out_channels=96)
    )


def _loads_of_data(channels: int, packs_inputs: bool) -> bool:
    """Whether the inputs of a tile have a buffer of their own."""
    where, problem = dataclasses.replace(MACHINE, packs_inputs=packs_inputs), _pointwise(channels)
    knobs = TileKnobs.default(problem, where)
    assert knobs is not None
    return "arg0_local" in build("conv2d", problem, knobs, where).func.script()


@pytest.mark.parametrize("name", FLOATS)
def test_sums_equal_the_reference(name: str) -> None:
    op, problem = CASES[name]
    default = operator_of("llvm", op).knobs.default(problem, MACHINE)
    assert default is not None
    for knobs in (default, *random_knobs(op, problem, MACHINE, 2)):
        made = build(op, problem, knobs, MACHINE)
        got = run_primfunc(made.func, list(made.arrays), list(made.result_shape), made.result_dtype, ISA)
        assert_is_reference(op, made, got)


def test_only_whole_vectors_of_channels_where_the_row_says_so() -> None:
    assert _loads_of_data(24, packs_inputs=True)
    assert not _loads_of_data(24, packs_inputs=False)
    assert not _loads_of_data(22, packs_inputs=True)


def test_the_estimate_counts_a_load_for_each_vector_of_inputs() -> None:
    knobs = TileKnobs(lanes=4, vectors=3, tile_h=1, tile_w=7, strip=2, chunks=1)
    plain = dataclasses.replace(MACHINE, packs_inputs=False)
    assert knobs.cycles(_pointwise(24), MACHINE) < knobs.cycles(_pointwise(24), plain)
    assert knobs.cycles(_pointwise(22), MACHINE) == knobs.cycles(_pointwise(22), plain)


def test_which_rows_pack() -> None:
    """Multiply-adds of a Cortex-A55 go beside loads of one float, not beside those of four."""
    assert [name for name, row in ROWS.items() if row.packs_inputs] == ["cortex-a53"]
