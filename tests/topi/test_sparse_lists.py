import numpy as np
import pytest

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.schedules.cuda.lookup import GpuLookupKnobs
from tvm_fastconv.topi.schedules.cuda.lookup_dense import GpuLookupDenseKnobs
from tvm_fastconv.topi.sparse_lists import ListedFilters, ListedRows, Stack, compact


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, np.uint16), ((1 << 16) - 1, np.uint16), (1 << 16, np.int32)]
)
def test_integers_are_as_short_as_they_can_be(largest: int, dtype: type) -> None:
    short = compact(np.array([0, largest]))
    assert short.dtype == dtype
    assert short.tolist() == [0, largest]


def test_an_empty_list_is_short() -> None:
    assert compact(np.zeros(0, np.int64)).dtype == np.uint16


def _entries(listed: ListedFilters | ListedRows, which: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and coefficients of one list, those that fill it included."""
    pairs = listed.entries.reshape(-1, 2)[listed.first[which] * step : listed.first[which + 1] * step]
    return pairs[:, 0], np.ascontiguousarray(pairs[:, 1]).view(np.float32)


@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 2))])
def test_listed_filters_hold_every_weight_once(stride: tuple[int, int], dilation: tuple[int, int]) -> None:
    params = Conv2dParams(
        kernel=(3, 4), out_channels=10, groups=2, stride=stride, dilation=dilation, padding=(1, 2, 1, 2)
    )  # fmt: skip
    knobs = GpuLookupKnobs(pixels=2, filters=2, warps=4, beside=1, block=3, columns=1, listed=1)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((10, 4, 3, 4), np.float32) * (rng.random((10, 4, 3, 4)) < 0.3)
    weight[4] = 0
    stack, listed = Stack.of(params, 11, 13, knobs.lanes, 1), knobs.lists(weight, params, (8, 11, 13))
    filters = 16  # two thread blocks of 8
    assert listed.first.size == 3 * filters + 1  # blocks of 3 channels of 8
    full = np.zeros((filters, 9, 3, 4), np.float32)
    full[:5, :4], full[5:10, 4:8] = weight[:5], weight[5:]
    for block in range(3):
        for o in range(filters):
            places, values = _entries(listed, block * filters + o, 2)
            got = np.zeros((3, 3, 4), np.float32)
            for (c, r, x), value in np.ndenumerate(full[o, 3 * block : 3 * block + 3]):
                column = x * dilation[1]
                row = r * dilation[0] * stack.phases + column % stack.phases
                place = c * stack.plane + row * stack.pitch + column // stack.phases
                got[c, r, x] = values[places == place].sum() if value else 0
            np.testing.assert_array_equal(got, full[o, 3 * block : 3 * block + 3])
            assert np.count_nonzero(values) == np.count_nonzero(got)
    assert listed.longest(filters) == np.diff(listed.first[::filters]).max()
    assert not listed.entries[-4:].any()


def test_stacked_images_share_no_more_than_zeros() -> None:
    params = Conv2dParams(kernel=(3, 3), out_channels=1, padding=(1, 1, 1, 1))
    stack = Stack.of(params, 13, 13, lanes=64, parts=1)
    assert (stack.pitch, stack.span, stack.period, stack.rows) == (14, 14, 14, 4)
    assert stack.window_rows == 6
    assert stack.reach < stack.size(1)


def test_listed_rows_are_rows_in_whole_steps() -> None:
    knobs = GpuLookupDenseKnobs(images=1, entries=8, pairs=1, warps=2)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 40), np.float32) * (rng.random((5, 40)) < 0.4)
    weight[2] = 0
    listed = knobs.lists(weight)
    assert listed.first.size == knobs.rows + 1
    for row in range(5):
        columns, values = _entries(listed, row, knobs.step)
        assert columns.size % 16 == 0
        got = np.zeros(40, np.float32)
        np.add.at(got, columns, values)
        np.testing.assert_array_equal(got, weight[row])
    assert listed.first[5] == listed.first[-1]
