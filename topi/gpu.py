"""What the schedules and their cost models know of a GPU: one row of data, and the table of rows."""

import itertools
import re
from dataclasses import dataclass, replace

import tvm

from .machine import Machine

KIB, MIB = 1024, 1024 * 1024

FIRST_TF32 = 80
"""Compute capability from which on tensor cores multiply TF32."""

WARP = 32
"""Threads that execute one instruction together."""


@dataclass(frozen=True, kw_only=True)
class Gpu(Machine):
    """A GPU. What passes read of any machine holds for one multiprocessor; cycles are those of the whole device.

    Attributes
    ----------
    lanes : int
        float32 values of the widest load of a thread.
    registers : int
        32-bit registers that a thread may have.
    arch : int
        Compute capability, major and minor digit: 90 is 9.0.
    multiprocessors : int
    clock : float
        GHz, boosted.
    fma_lanes, popcount_lanes : int
        Multiply-adds of float32 and popcounts of 32 bits that a multiprocessor begins each cycle.
    binary_mma : float
        Bit products (AND and count of one pair of bits) that the tensor cores of a multiprocessor finish each cycle;
        those of 16 popcounts where they have no such instruction.
    tf32_mma : float
        Multiply-adds of TF32 that they finish each cycle with ``mma.sync``; nothing where there is no `has_tf32`.
    shared_bytes, block_shared_bytes : int
        Shared memory of a multiprocessor, and what one block may have of it.
    threads : int
        That a multiprocessor holds at once.
    device_bandwidth, cache_bandwidth : float
        GB/s of device memory, and of L2.
    launch_seconds : float
        Between the beginnings of two dependent kernels of a graph.
    """

    kind: str = "cuda"
    lanes: int = 4
    registers: int = 255
    counts_words: bool = True
    call_cycles: int = 1
    transpose_cycles: float = 0.003
    arch: int
    multiprocessors: int
    clock: float
    fma_lanes: int = 128
    popcount_lanes: int = 16
    binary_mma: float = 512.0
    tf32_mma: float = 128.0
    shared_bytes: int
    block_shared_bytes: int
    threads: int
    device_bandwidth: float
    cache_bandwidth: float
    launch_seconds: float = 0.65e-6

    @property
    def has_tf32(self) -> bool:
        """Whether its tensor cores multiply TF32."""
        return self.arch >= FIRST_TF32

    @property
    def device_bytes_per_cycle(self) -> float:
        """Of device memory."""
        return self.device_bandwidth / self.clock

    @property
    def cache_bytes_per_cycle(self) -> float:
        """Of L2."""
        return self.cache_bandwidth / self.clock

    @property
    def own_l3_bytes(self) -> int:
        """Of L2, which no other network shares."""
        return self.l2_bytes

    @property
    def launch_cycles(self) -> float:
        """Of a kernel that does nothing."""
        return self.launch_seconds * self.clock * 1e9

    def streaming_cycles(self, size: float) -> float:
        """To read ``size`` bytes that are not in L2."""
        return size / self.device_bytes_per_cycle

    def passing_cycles(self, size: float) -> float:
        """To write ``size`` bytes behind one kernel and read them again in front of the next."""
        fits = 2 * size <= self.l2_bytes
        return 2 * size / (self.cache_bytes_per_cycle if fits else self.device_bytes_per_cycle)

    def handover_cycles(self, size: float) -> float:
        """None: the estimate of a kernel is of its launch, its loads and its stores as well."""
        return 0.0


_T4 = Gpu(
    name="t4", arch=75, multiprocessors=40, clock=1.59, fma_lanes=64, shared_bytes=64 * KIB,
    block_shared_bytes=64 * KIB, threads=1024, l2_bytes=4 * MIB, device_bandwidth=320, cache_bandwidth=1200,
)  # fmt: skip
_A100 = Gpu(
    name="a100", arch=80, multiprocessors=108, clock=1.41, fma_lanes=64, binary_mma=16384, tf32_mma=512,
    shared_bytes=164 * KIB, block_shared_bytes=163 * KIB, threads=2048, l2_bytes=40 * MIB, device_bandwidth=1555,
    cache_bandwidth=4500,
)  # fmt: skip
_RTX_3090 = Gpu(
    name="rtx3090", arch=86, multiprocessors=82, clock=1.695, binary_mma=8192, shared_bytes=100 * KIB,
    block_shared_bytes=99 * KIB, threads=1536, l2_bytes=6 * MIB, device_bandwidth=936, cache_bandwidth=2500,
)  # fmt: skip
_ORIN = Gpu(
    name="orin", arch=87, multiprocessors=16, clock=1.3, binary_mma=8192, shared_bytes=164 * KIB,
    block_shared_bytes=163 * KIB, threads=1536, l2_bytes=4 * MIB, device_bandwidth=205, cache_bandwidth=600,
)  # fmt: skip
_RTX_4090 = Gpu(
    name="rtx4090", arch=89, multiprocessors=128, clock=2.52, binary_mma=8192, shared_bytes=100 * KIB,
    block_shared_bytes=99 * KIB, threads=1536, l2_bytes=72 * MIB, device_bandwidth=1008, cache_bandwidth=5000,
)  # fmt: skip
_L4 = replace(
    _RTX_4090, name="l4", multiprocessors=58, clock=2.04, tf32_mma=256, l2_bytes=48 * MIB, device_bandwidth=300,
)  # fmt: skip
_H100 = Gpu(
    name="h100", arch=90, multiprocessors=132, clock=1.98, binary_mma=21840, tf32_mma=577.5,
    shared_bytes=228 * KIB, block_shared_bytes=227 * KIB, threads=2048, l2_bytes=50 * MIB, device_bandwidth=3000,
    cache_bandwidth=8300,
)  # fmt: skip
_H200 = replace(_H100, name="h200", l2_bytes=60 * MIB, device_bandwidth=4100)

GPUS = {row.name: row for row in (_T4, _A100, _RTX_3090, _ORIN, _RTX_4090, _L4, _H100, _H200)}
"""Name → row. Sizes and rates are those of the vendor's architecture white papers and of the CUDA programming guide;
those of the H100 and H200 were measured on an H200. Rates of TF32 are peaks without sparsity, on an H100 what
``mma.sync`` was measured to reach there; an Orin's is not published, and assumed to be an RTX 3090's."""

_OF_ARCH = {75: _T4, 80: _A100, 86: _RTX_3090, 87: _ORIN, 89: _RTX_4090, 90: _H100}
"""What is assumed where only an architecture is known."""


def gpu_named(name: str) -> Gpu | None:
    """The row that a GPU's ``name`` has a word of: ``h200``, ``nvidia/nvidia-h200`` or ``NVIDIA H200``; if any."""
    words = re.findall("[a-z0-9]+", name.lower())
    joined = {*words, *(first + second for first, second in itertools.pairwise(words))}
    return next((row for known, row in GPUS.items() if known in joined), None)


def gpu_of(target: tvm.target.Target) -> Gpu:
    """The row that the tag of ``target`` names, else one of its architecture.

    Raises
    ------
    ValueError
        We know no GPU of its architecture.
    """
    named = gpu_named(str(getattr(target, "tag", "") or ""))
    arch = str(target.attrs.get("arch", "")).removeprefix("sm_").rstrip("af")
    if named is not None and arch == str(named.arch):
        return named
    if not arch.isdigit() or int(arch) not in _OF_ARCH:
        allowed = ", ".join(f"sm_{known}" for known in _OF_ARCH)
        raise ValueError(f"no GPU is known of architecture {target.attrs.get('arch')!r}; allowed: {allowed}")
    return _OF_ARCH[int(arch)]
