import pytest

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
from tvm_fastconv.topi.schedules.cpu.window import WindowKnobs

from ....processors import ROWS


@pytest.mark.parametrize(
    ("batch", "height", "rows"),
    [
        (1, 56, 14),
        (1, 28, 7),
        (1, 14, 2),
        (1, 13, 1),
        (1, 7, 1),
        (1, 3, 1),
        (2, 14, 7),
        (4, 14, 14),
        (16, 7, 7),
    ],
)
def test_tasks_divide_the_plane_and_are_enough_for_four_threads(batch: int, height: int, rows: int) -> None:
    conv = Conv2dParams(kernel=(3, 3), out_channels=32, padding=(1, 1, 1, 1), groups=32)
    problem = DepthwiseProblem(batch=batch, height=height, width=height, channels=32, conv=conv)
    assert WindowKnobs.default(problem, ROWS["znver4"]).rows == rows
