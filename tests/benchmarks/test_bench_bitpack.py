import pytest

from benchmarks import bench_bitpack
from tvm_fastconv.measure import roofline


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_packing_is_timed_beside_a_copy(layout):
    packed = bench_bitpack.measure(layout, 32, 8, roofline.build_library(), repeats=2)
    assert packed.gb_s > 0
    assert packed.share == packed.gb_s / packed.copy_gb_s
    assert packed.gb_s * packed.median_us * 1e3 >= 4 * 32 * 64  # the best turn is no slower than the median
