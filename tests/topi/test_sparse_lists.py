import numpy as np
import pytest

from tvm_fastconv.topi.sparse_lists import compact


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, np.uint16), ((1 << 16) - 1, np.uint16), (1 << 16, np.int32)]
)
def test_integers_are_as_short_as_they_can_be(largest: int, dtype: type) -> None:
    short = compact(np.array([0, largest]))
    assert short.dtype == dtype
    assert short.tolist() == [0, largest]


def test_an_empty_list_is_short() -> None:
    assert compact(np.zeros(0, np.int64)).dtype == np.uint16
