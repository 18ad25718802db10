"""Candidates on a GPU, through TVM's runtime alone: called, checked and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_fastconv.measure.gpu_timing import gpu_works, time_as_in_network, time_in_graphs
from tvm_fastconv.runtime.gpu import (
    compute_capability,
    first_line,
    gpu_obstacle,
    to_cpu,
    to_gpu,
    wait_for_gpu,
)
from tvm_fastconv.runtime.tvm_runtime import tvm_ffi

from .check_answer import check_answer, unset


class GpuBroken(RuntimeError):
    """What ran on the GPU has left it so that this process cannot use it any more."""


@dataclass(frozen=True)
class GpuCall:
    """A candidate with its data on the GPU.

    Attributes
    ----------
    run : callable
        Launches its kernels.
    address, nbytes : int
        Of what they read first.
    """

    run: Callable[[], object]
    address: int
    nbytes: int


def require_gpu(arch: int) -> None:
    """Make TVM's CUDA runtime ready for machine code of compute capability ``arch``.

    Raises
    ------
    ValueError
        It cannot run here.
    """
    if (reason := gpu_obstacle((arch,))) is not None:
        raise ValueError(reason)
    if (present := compute_capability()) != arch:
        raise ValueError(f"it is for a GPU of sm_{arch}, and this one is sm_{present}")


def checked_call(
    code: Callable[..., object], arrays: Sequence[np.ndarray], expected: np.ndarray, op: str
) -> GpuCall:
    """A call of ``code``, which computes ``op``, on copies of ``arrays``, once its answer has been compared.

    Raises
    ------
    ValueError
        It computes something else.
    """
    ffi = tvm_ffi()
    values = [to_gpu(ffi.from_dlpack(np.ascontiguousarray(array))) for array in arrays]
    out = to_gpu(ffi.from_dlpack(unset(expected.shape, str(expected.dtype))))
    code(*values, out)
    wait_for_gpu()
    check_answer(np.from_dlpack(to_cpu(out)), expected, op)
    return GpuCall(lambda: code(*values, out), values[0].data_ptr(), arrays[0].nbytes)


def times(
    calls: Sequence[GpuCall], turns: int, seconds: float, footprint: int | None = None
) -> list[list[float]]:
    """Seconds of each call, by turns of ``seconds``; with ``footprint``, of single calls as in a network."""
    runs = [call.run for call in calls]
    if footprint is None:
        return time_in_graphs(runs, turns, seconds)
    return time_as_in_network(runs, [(call.address, call.nbytes) for call in calls], turns, footprint)


def raise_if_broken(error: Exception) -> None:
    """Raise `GpuBroken` where ``error`` is one after which CUDA refuses all further work of this process."""
    if not gpu_works():
        raise GpuBroken(f"the GPU refuses all work after it: {first_line(error)}") from None
