"""Where operators on PyTorch tensors run: the CPU's memory or a GPU's, and code for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..runtime.gpu import TURNS, gpu_obstacle
from ..runtime.shutdown import waited_for_at_exit
from ..runtime.threads import use_threads
from ..runtime.tvm_runtime import tvm_ffi

if TYPE_CHECKING:
    import tvm
    from tvm import tirx

PLACES = ("cpu", "cuda")
"""Types of PyTorch devices."""


def same_place(op: str, **tensors: torch.Tensor) -> None:
    """Refuse tensors that are not all in one memory.

    Raises
    ------
    InputError
        They are in several.
    """
    if len({tensor.device for tensor in tensors.values()}) > 1:
        where = ", ".join(f"{name} is on {tensor.device}" for name, tensor in tensors.items())
        raise InputError(f"{op}: {where}; expected one device")


def target_of(place: str) -> tvm.target.Target:
    """What code for tensors of a device of type ``place`` is compiled for.

    Raises
    ------
    InputError
        TVM cannot run code there.
    """
    from tvm_fastconv.gpu_targets import arches_of
    from tvm_fastconv.targets import resolve_target

    if place == "cpu":
        return resolve_target("native")
    major, minor = torch.cuda.get_device_capability(0)
    target = resolve_target(f"cuda -arch=sm_{major}{minor}")
    if (reason := gpu_obstacle(arches_of(target))) is not None:
        raise InputError(f"operators cannot run on the GPU: {reason}")
    return target


def compiled_for(target: tvm.target.Target, func: tirx.PrimFunc) -> Callable[..., None]:
    """Machine code of a scheduled function."""
    from tvm_fastconv.artifact.fatbin import loaded_on_gpu
    from tvm_fastconv.gpu_targets import is_cuda
    from tvm_fastconv.topi.build_operator import compiled

    code: Callable[..., None]
    code = loaded_on_gpu(func, target) if is_cuda(target) else compiled(func, target)["main"]
    return code


@waited_for_at_exit
def run(code: Any, *tensors: torch.Tensor) -> None:
    """Call compiled code: on ``torch.get_num_threads()`` threads, or on PyTorch's current stream of the GPU."""
    ffi = tvm_ffi()
    arguments = [ffi.from_dlpack(tensor) for tensor in tensors]
    if tensors[0].is_cuda:
        with TURNS.on(torch.cuda.current_stream(0).cuda_stream):
            code(*arguments)
        return
    use_threads(torch.get_num_threads(), ffi)
    code(*arguments)
