"""What the popcounts compile to: the instructions that each processor has for them, and no copy in the inner loop."""

import re

import numpy as np
import pytest
import tvm
from tvm import te

from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, bitserial_conv2d, border_table, pack_signs
from tvm_fastconv.topi.build_operator import compiled
from tvm_fastconv.topi.byte_counts import run_of
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs
from tvm_fastconv.topi.window import extents

PARAMS = BitserialParams(conv=Conv2dParams(kernel=(3, 3), out_channels=64, padding=(1, 1, 1, 1)), channels=64)


def _assembly(target: tvm.target.Target) -> str:
    machine = machine_of(target)
    knobs = TileKnobs(lanes=machine.lanes, vectors=2, tile_h=1, tile_w=4, strip=7, chunks=1)
    signs = np.random.default_rng(0).random((1, 64, 64, 3, 3)) < 0.5
    arrays = [
        np.zeros((1, 28, 28, 2), np.uint32),
        pack_signs(signs, knobs.panel),
        border_table(signs, PARAMS, 28, 28),
    ]
    tensors = [te.placeholder(extents(*a.shape), str(a.dtype), name=f"arg{i}") for i, a in enumerate(arrays)]
    attrs = {"fastconv.op": "bitserial_conv2d", "fastconv.knobs": knobs.to_json()}
    result = bitserial_conv2d(
        *tensors, params=PARAMS, tile=knobs, attrs=attrs, bytewise=not machine.counts_words
    )
    func = schedule_primfunc(te.create_prim_func([*tensors, result]), machine)
    return compiled(func, target).mod.inspect_source("s")


@pytest.mark.parametrize(
    ("target", "count", "register"),
    [
        ("x86_64-linux-gnu -mcpu=icelake-server", "vpopcntd", "%zmm"),
        ("x86_64-linux-gnu -mcpu=skylake-avx512", "vpshufb", "%zmm"),
        ("x86_64-linux-gnu -mcpu=haswell", "vpshufb", "%ymm"),
        ("x86_64-linux-gnu -mcpu=nehalem", "pshufb", "%xmm"),
        ("aarch64-linux-gnu -mcpu=cortex-a72", "cnt", ".16b"),
    ],
)
def test_bits_are_counted_in_whole_vectors(target: str, count: str, register: str) -> None:
    text = _assembly(resolve_target(target))
    counts = [line for line in text.splitlines() if re.match(rf"\s+{count}\s", line)]
    assert counts
    assert all(register in line for line in counts)
    assert not re.search(r"\spopcnt\w*\s", text)  # lane by lane


@pytest.mark.parametrize(
    ("taps", "run"),
    [((3, 3, 2), (3, 3, 2)), ((3, 3, 4), (1, 3, 4)), ((3, 3, 16), (1, 1, 16)), ((1, 1, 37), (1, 1, 1)),
     ((1, 1, 62), (1, 1, 31))],
)  # fmt: skip
def test_a_run_is_as_long_as_a_byte_can_count(taps: tuple[int, int, int], run: tuple[int, int, int]) -> None:
    assert run_of(*taps) == run
