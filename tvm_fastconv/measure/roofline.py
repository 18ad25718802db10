"""The machine's own limits, one core: multiply-adds of floats and of bits, reading and copying from each memory.

Every figure is the best of several samples, since other tenants of a machine only ever slow it down.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.temporary import temporary_folder

COMPILER_FLAGS = {"native": "-march=native", "avx2": "-march=haswell"}
REPEATS = 9
PROBE_SECONDS = (
    0.002  # one call of a probe: long against the call's overhead, short against a change of frequency
)
DRAM_BYTES = 256 << 20  # at least, and four times the last cache
_PROBES = (
    "multiply_add", "xor_popcount", "read_memory", "copy_memory", "add_chain", "multiply_add_chain",
    "half_multiply_add", "byte_products", "gather", "read_scattered",
)  # fmt: skip
USUAL_CACHES = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}  # where the system does not tell


@dataclass(frozen=True)
class Peaks:
    """Measured limits of one core.

    Parameters
    ----------
    lanes
        float32 lanes of the vectors used.
    fma_gflops
        10^9 float32 operations per second, two for each multiply-add.
    xnor_gmacs
        10^9 binary multiply-accumulates per second: 32 for each exclusive or, popcount and addition of a word.
    read_gb_s, copy_gb_s
        10^9 bytes per second by level (``L1``, ``L2``, ``L3``, ``DRAM``); a copied byte counts twice.
    """

    lanes: int
    fma_gflops: float
    xnor_gmacs: float
    read_gb_s: dict[str, float]
    copy_gb_s: dict[str, float]


class Probe:
    """Work of a known size that remembers its fastest run.

    Parameters
    ----------
    work
        Takes a number of rounds, returns the operations or bytes that these were.
    """

    def __init__(self, work: Callable[[int], float]) -> None:
        self._work = work
        self._rounds = 1
        self.best_rate = 0.0  # 10^9 operations or bytes per second
        work(1)
        while (seconds := self.run()) < PROBE_SECONDS:
            self._rounds *= max(2, min(int(PROBE_SECONDS / seconds), 1000))

    def run(self) -> float:
        """Work for about `PROBE_SECONDS`; returns the seconds it took."""
        start = time.perf_counter()
        done = self._work(self._rounds)
        seconds = time.perf_counter() - start
        self.best_rate = max(self.best_rate, done / seconds / 1e9)
        return seconds


def build_library(isa: str = "native") -> ctypes.CDLL:
    """Compile ``peak.c`` with the system's C compiler (``CC``, else ``cc``).

    Raises
    ------
    RuntimeError
        There is no compiler, or it fails.
    """
    compiler = os.environ.get("CC", "cc")
    source = Path(__file__).with_name("peak.c")
    with temporary_folder() as folder:
        library = Path(folder, "peak.so")
        command = [compiler, "-O3", COMPILER_FLAGS[isa], "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError(f"no C compiler {compiler!r}: install one, or name it in CC") from None
        except subprocess.CalledProcessError as failure:
            raise RuntimeError(f"{' '.join(command)}\n{failure.stderr}") from None
        loaded = ctypes.CDLL(str(library))
    for name in _PROBES:
        getattr(loaded, name).restype = ctypes.c_double
    loaded.allocate.restype = ctypes.c_void_p
    return loaded


def fma_probe(library: ctypes.CDLL) -> Probe:
    """Multiply-adds in registers; ``best_rate`` is in GFLOP/s."""
    return Probe(lambda rounds: library.multiply_add(ctypes.c_long(rounds)))


def xnor_probe(library: ctypes.CDLL) -> Probe:
    """Binary multiply-accumulates in registers; ``best_rate`` is in 10^9 of them per second."""
    return Probe(lambda rounds: library.xor_popcount(ctypes.c_long(rounds)))


@contextlib.contextmanager
def read_probe(library: ctypes.CDLL, level: str) -> Iterator[Probe]:
    """Reading from ``level`` of memory, see `memory_levels`; ``best_rate`` is in GB/s."""
    with probe_buffer(library, memory_levels()[level]) as buffer:
        yield _memory_probe(library.read_memory, buffer, memory_levels()[level])


@contextlib.contextmanager
def copy_probe(library: ctypes.CDLL, size: int) -> Iterator[Probe]:
    """Copying half of ``size`` bytes over the other half; ``best_rate`` is in GB/s, read and written."""
    with probe_buffer(library, size) as buffer:
        yield _memory_probe(library.copy_memory, buffer, size)


@contextlib.contextmanager
def probe_buffer(library: ctypes.CDLL, size: int) -> Iterator[ctypes.c_void_p]:
    """``size`` bytes for a probe to read."""
    buffer = ctypes.c_void_p(library.allocate(ctypes.c_size_t(size)))
    if not buffer:
        raise RuntimeError(f"cannot allocate {size >> 20} MB to measure memory")
    try:
        yield buffer
    finally:
        library.release(buffer)


def measure_peaks(isa: str = "native", repeats: int = 9) -> Peaks:
    """Measure every limit of the core this process runs on (a few seconds)."""
    library = build_library(isa)
    probes = {"fma": fma_probe(library), "xnor": xnor_probe(library)}
    with contextlib.ExitStack() as stack:
        for level, size in memory_levels().items():
            buffer = stack.enter_context(probe_buffer(library, size))
            for kind in ("read", "copy"):
                probes[f"{kind} {level}"] = _memory_probe(getattr(library, f"{kind}_memory"), buffer, size)
        interleave({name: probe.run for name, probe in probes.items()}, repeats, min_time=PROBE_SECONDS)
    rates = {name: probe.best_rate for name, probe in probes.items()}
    return Peaks(
        lanes=library.vector_lanes(),
        fma_gflops=rates["fma"],
        xnor_gmacs=rates["xnor"],
        read_gb_s={level: rates[f"read {level}"] for level in memory_levels()},
        copy_gb_s={level: rates[f"copy {level}"] for level in memory_levels()},
    )


def memory_levels() -> dict[str, int]:
    """Bytes to touch so that the data comes from each level: half of a cache, or far more than the last."""
    sizes = dict(USUAL_CACHES)
    for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (cache / "type").read_text().strip() != "Instruction":
            kilobytes = int((cache / "size").read_text().strip().removesuffix("K"))
            sizes[int((cache / "level").read_text())] = kilobytes << 10
    levels = {f"L{level}": size // 2 for level, size in sorted(sizes.items()) if level <= max(USUAL_CACHES)}
    return {**levels, "DRAM": max(DRAM_BYTES, 4 * max(sizes.values()))}


def _memory_probe(function: Callable[..., float], buffer: ctypes.c_void_p, size: int) -> Probe:
    return Probe(lambda rounds: function(buffer, ctypes.c_size_t(size), ctypes.c_long(rounds)))


def measure_clock(library: ctypes.CDLL | None = None) -> float:
    """Cycles of this machine in a second, by a chain of additions.

    Parameters
    ----------
    library : CDLL, optional
        ``clock.c``, compiled; by default it is.

    Raises
    ------
    FastconvError
        There is no C compiler, or what it makes cannot be loaded here.
    """
    library = library or _own_clock()
    library.add_chain.restype = ctypes.c_double
    probe = Probe(lambda rounds: library.add_chain(ctypes.c_long(rounds)))
    interleave({"clock": probe.run}, REPEATS, min_time=PROBE_SECONDS)
    return 1e9 * probe.best_rate


def _own_clock() -> ctypes.CDLL:
    from tvm_fastconv.artifact.c_compiler import find_compiler
    from tvm_fastconv.artifact.elf import process_machine

    source = Path(__file__).with_name("clock.c")
    try:
        with temporary_folder() as folder:
            compiler = find_compiler(f"{process_machine()}-linux-gnu")
            compiler.compile(folder, str(source), "clock.o")
            compiler.link(folder, ["clock.o"], "clock.so", ())
            return ctypes.CDLL(str(folder / "clock.so"))
    except (FastconvError, OSError) as error:
        raise FastconvError(f"the clock cannot be measured: {error}") from error
