import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from tvm_fastconv.relay_passes.dense.direct_plan import plan_direct
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem, conv2d_reference, pack_weight
from tvm_fastconv.topi.grouped_conv2d import grouped_conv2d
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.grouped import groups_of_a_vector, is_permuted
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs
from tvm_fastconv.topi.window import extents

from ..close import assert_close
from ..processors import ROWS
from .run_operator import each_isa, machine, run_operator

RTOL = 2e-6  # float32 sums of up to 720 terms in another order, relative to the largest output

P = Conv2dParams
AROUND = (1, 1, 1, 1)
CASES = {
    "13 of 8": (P(kernel=(3, 3), out_channels=104, groups=13, padding=AROUND), (1, 7, 9, 104)),
    "51 of 2, stride 2": (
        P(kernel=(3, 3), out_channels=102, groups=51, stride=(2, 2), padding=AROUND), (2, 8, 9, 102)),
    "25 of 4, dilated": (
        P(kernel=(3, 2), out_channels=100, groups=25, dilation=(2, 3), padding=(2, 3, 1, 0)), (1, 9, 11, 100)),
    "9 of 12, odd padding": (P(kernel=(3, 3), out_channels=108, groups=9, padding=(0, 2, 1, 3)), (1, 6, 7, 108)),
    "5 of 24": (P(kernel=(3, 3), out_channels=120, groups=5, padding=AROUND), (1, 5, 6, 120)),
    "3 of 40, stride 2": (
        P(kernel=(3, 3), out_channels=120, groups=3, stride=(2, 1), padding=AROUND), (1, 7, 7, 120)),
    "7 of 3": (P(kernel=(3, 3), out_channels=21, groups=7, padding=AROUND), (1, 6, 6, 21)),
    "3 of 5 to 7": (P(kernel=(1, 3), out_channels=21, groups=3), (2, 4, 9, 15)),
    "5 of 4 to 8": (P(kernel=(3, 3), out_channels=40, groups=5, padding=AROUND), (1, 6, 6, 20)),
    "5 of 8 to 4": (P(kernel=(3, 3), out_channels=20, groups=5, padding=AROUND), (1, 6, 6, 40)),
    "7 of 4 to 1": (P(kernel=(3, 3), out_channels=7, groups=7, padding=AROUND), (1, 6, 6, 28)),
    "1x1": (P(kernel=(1, 1), out_channels=40, groups=10), (1, 8, 8, 40)),
    "transposed": (
        P(kernel=(4, 4), out_channels=24, groups=3, input_dilation=(2, 2), padding=(2, 2, 3, 2)), (1, 5, 6, 12)),
    "cropped": (P(kernel=(2, 2), out_channels=24, groups=6, padding=(-1, 0, 0, -1)), (1, 6, 6, 24)),
    "NCHW in": (P(kernel=(3, 3), out_channels=12, groups=2, padding=AROUND, data_layout="NCHW"), (1, 9, 9, 4)),
}  # fmt: skip


def _check(case: str, vectors: int, isa: str) -> None:
    params, shape = CASES[case]
    rng = np.random.default_rng(0)
    data = rng.standard_normal(shape, np.float32)
    weight = rng.standard_normal((params.out_channels, shape[3] // params.groups, *params.kernel), np.float32)
    knobs = TileKnobs(lanes=machine(isa).lanes, vectors=vectors, tile_h=2, tile_w=3, strip=2, chunks=1)
    stored = data if params.data_layout == "NHWC" else np.ascontiguousarray(data.transpose(0, 3, 1, 2))
    packed = pack_weight(weight, knobs.panel)
    got = run_operator(grouped_conv2d, [stored, packed], knobs, "grouped_conv2d", isa, params=params)
    want = conv2d_reference(data, weight, params)
    assert_close(got, want, RTOL)


@each_isa
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, isa: str) -> None:
    _check(case, 1, isa)


@pytest.mark.parametrize("case", ["51 of 2, stride 2", "9 of 12, odd padding", "3 of 40, stride 2"])
def test_a_tile_holds_several_vectors(case: str) -> None:
    _check(case, 2, "avx2")


@pytest.mark.parametrize(("lanes", "groups", "width"), [(16, 13, 8), (16, 51, 2), (8, 13, 4), (4, 9, 2)])
def test_what_a_permuted_vector_loads_lies_inside_the_copied_input(
    lanes: int, groups: int, width: int
) -> None:
    channels = groups * width
    knobs = TileKnobs(lanes=lanes, vectors=1, tile_h=1, tile_w=4, strip=1, chunks=1)
    params = P(kernel=(3, 3), out_channels=channels, groups=groups, padding=AROUND)
    vectors = -(-channels // lanes)
    shapes = [(1, 4, 4, channels), (vectors, 3, 3, width, lanes)]
    data, weight = (te.placeholder(extents(*shape), "float32") for shape in shapes)
    attrs = {"fastconv.op": "grouped_conv2d", "fastconv.knobs": knobs.to_json()}
    func = te.create_prim_func([data, weight, grouped_conv2d(data, weight, params, knobs, attrs)])
    scheduled = schedule_primfunc(func, Machine(lanes=lanes, registers=32))
    sch = Schedule(tvm.IRModule({"main": scheduled}))
    ((_, axis, pitch, _),) = sch.get(sch.get_sblock("window")).annotations["buffer_dim_align"]
    furthest = (vectors - 1) * lanes + width - 1 + lanes
    assert axis == 2  # the stride of a pixel
    assert pitch >= furthest


@pytest.mark.parametrize(
    ("inputs", "outputs", "lanes", "permuted"),
    [
        (8, 8, 16, True),
        (2, 2, 4, True),
        (4, 8, 16, True),
        (16, 8, 16, False),  # the second group's input is 16 places behind the first one's
        (12, 12, 16, False),  # the pattern changes from vector to vector
        (16, 16, 16, False),  # one value for all lanes: a broadcast
    ],
)
def test_a_vector_is_permuted_where_one_load_holds_it(
    inputs: int, outputs: int, lanes: int, permuted: bool
) -> None:
    assert is_permuted(inputs, outputs, lanes) is permuted


@pytest.mark.parametrize(
    ("outputs", "lanes", "channels", "touched"),
    [(12, 16, 48, 2), (3, 16, 48, 6), (24, 8, 48, 1), (40, 16, 80, 2)],
)
def test_groups_that_a_vector_touches(outputs: int, lanes: int, channels: int, touched: int) -> None:
    assert groups_of_a_vector(outputs, lanes, channels) == touched


@pytest.mark.parametrize(
    ("channels", "groups", "size", "op", "chunks", "rows"),
    [
        (512, 32, 14, "conv2d", 4, 14),  # pixels of 512 channels are 2 KiB apart, of a chunk's 128 half a KiB
        (112, 7, 28, "conv2d", 7, 28),
        (512, 64, 14, "grouped_conv2d", 4, 14),
        (120, 10, 28, "grouped_conv2d", 1, 7),  # panels end inside groups of 12: chunks would copy some twice
    ],
)
def test_chunks_copy_the_channels_of_their_own_groups(
    channels: int, groups: int, size: int, op: str, chunks: int, rows: int
) -> None:
    conv = Conv2dParams(kernel=(3, 3), out_channels=channels, groups=groups, padding=(1, 1, 1, 1))
    plan = plan_direct(
        Planner(ROWS["znver4"]), ConvProblem(height=size, width=size, channels=channels, conv=conv)
    )
    assert (plan.op, plan.knobs.chunks, plan.knobs.strip * plan.knobs.tile_h) == (op, chunks, rows)
