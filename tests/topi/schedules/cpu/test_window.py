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


@pytest.mark.parametrize(("cpu", "tile"), [("znver4", 7), ("cortex-a72", 14), ("cortex-a53", 7)])
def test_a_tile_has_the_share_of_the_registers_that_its_processor_wants(cpu: str, tile: int) -> None:
    """Of 26 registers, a Cortex-A53's share is 11: more than half of a plane of 14."""
    conv = Conv2dParams(kernel=(3, 3), out_channels=32, padding=(1, 1, 1, 1), groups=32)
    problem = DepthwiseProblem(height=14, width=14, channels=32, conv=conv)
    assert WindowKnobs.default(problem, ROWS[cpu]).tile_w == tile
