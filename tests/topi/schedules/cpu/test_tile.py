"""What the register tile's estimate knows of a machine."""

import dataclasses

from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ...run_operator import machine

MACHINE = machine("avx512")
PROBLEM = ConvProblem(
    batch=1, height=7, width=7, channels=972, conv=Conv2dParams(kernel=(1, 1), out_channels=174)
)
WIDE = TileKnobs(lanes=16, vectors=11, tile_h=1, tile_w=1, strip=7, chunks=1)
"""As wide as all channels, where a tile is one pixel: all weights are read for each of them."""


def test_weights_that_pixels_share_are_read_less_often() -> None:
    assert WIDE in TileKnobs.space(PROBLEM, MACHINE)
    default = TileKnobs.default(PROBLEM, MACHINE)
    assert default.tile_h * default.tile_w > 1  # 1.8 times as fast, measured on a Zen 4
    assert WIDE.cycles(PROBLEM, MACHINE) > 1.1 * default.cycles(PROBLEM, MACHINE)


def test_weights_that_fit_l1_are_read_from_there() -> None:
    large = dataclasses.replace(MACHINE, l1_bytes=1 << 20)
    assert WIDE.cycles(PROBLEM, large) < WIDE.cycles(PROBLEM, MACHINE)


def test_a_single_pixel_reads_its_weights_once_whatever_the_tile() -> None:
    pixel = dataclasses.replace(PROBLEM, height=1, width=1)
    large = dataclasses.replace(MACHINE, l1_bytes=1 << 20)
    assert WIDE.cycles(pixel, large) == WIDE.cycles(pixel, MACHINE)
