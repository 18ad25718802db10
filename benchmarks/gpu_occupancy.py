"""How many warps of a kernel a multiprocessor holds at once, of how many it could: the theoretical occupancy.

The rules are those of NVIDIA's ``cuda_occupancy.h`` (CUDA 13), the sizes those of the table of compute capabilities in
its CUDA programming guide.
"""

from tvm_fastconv.topi.gpu import KIB, WARP, Gpu

PARTITIONS = 4
"""Of a multiprocessor; each has a share of the registers."""

REGISTERS = 65536
WARP_REGISTERS = 256
"""Registers are given to a warp in units of these."""

BLOCKS = {75: 16, 80: 32, 86: 16, 89: 24, 90: 32, 100: 32}
"""That a multiprocessor holds at once."""


def blocks_at_once(row: Gpu, threads: int, registers: int, shared_bytes: int, arch: int | None = None) -> int:
    """Blocks that a multiprocessor holds.

    Parameters
    ----------
    registers : int
        Of each thread.
    shared_bytes : int
        Of a block, all of it.
    arch : int, optional
        Another compute capability than the row's, with the row's sizes.
    """
    arch = arch or row.arch
    warps = -(-threads // WARP)
    of_warp = max(-(-registers * WARP // WARP_REGISTERS) * WARP_REGISTERS, WARP_REGISTERS)
    starts = of_warp * -(-warps // PARTITIONS) * PARTITIONS <= REGISTERS  # as if each partition had the same
    by_registers = REGISTERS // PARTITIONS // of_warp * PARTITIONS // warps if starts else 0
    unit, reserved = (256, 0) if arch < 80 else (128, KIB)
    of_block = -(-(shared_bytes + reserved) // unit) * unit
    by_shared = row.shared_bytes // of_block if of_block else BLOCKS[arch]
    return min(BLOCKS[arch], row.threads // (warps * WARP), by_registers, by_shared)


def occupancy(row: Gpu, threads: int, registers: int, shared_bytes: int, arch: int | None = None) -> float:
    """Warps that a multiprocessor holds, of those that it could."""
    blocks = blocks_at_once(row, threads, registers, shared_bytes, arch)
    return blocks * -(-threads // WARP) * WARP / row.threads
