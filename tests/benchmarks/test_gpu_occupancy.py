"""The theoretical occupancy of a kernel, against figures of NVIDIA's own calculator."""

import pytest

from benchmarks.gpu_occupancy import blocks_at_once, occupancy
from tvm_fastconv.topi.gpu import GPUS


@pytest.mark.parametrize(
    ("gpu", "arch", "threads", "registers", "shared_bytes", "blocks"),
    [  # the last column is what cudaOccMaxActiveBlocksPerMultiprocessor of cuda_occupancy.h, CUDA 13.5, says
        ("t4", 75, 256, 78, 0, 3),
        ("t4", 75, 128, 64, 4352, 8),
        ("a100", 80, 256, 177, 65536, 1),
        ("a100", 80, 32, 109, 1157, 16),
        ("rtx3090", 86, 128, 96, 17408, 5),
        ("rtx4090", 89, 512, 64, 97096, 1),
        ("h100", 90, 512, 40, 192196, 1),
        ("h100", 90, 96, 33, 0, 16),
        ("h100", 100, 128, 154, 34816, 3),
        ("h100", 90, 1024, 65, 0, 0),
    ],
)
def test_blocks_are_those_of_the_vendors_calculator(
    gpu: str, arch: int, threads: int, registers: int, shared_bytes: int, blocks: int
) -> None:
    assert blocks_at_once(GPUS[gpu], threads, registers, shared_bytes, arch) == blocks


def test_the_occupancy_is_the_share_of_all_warps() -> None:
    assert occupancy(GPUS["t4"], 256, 78, 0) == 3 * 8 / 32
    assert occupancy(GPUS["h100"], 1024, 32, 0) == 1.0
