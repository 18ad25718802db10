"""What operators on PyTorch tensors share: which tensors they take, and how compiled code is run on them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..runtime.arrays import ALIGNMENT
from ..runtime.shutdown import waited_for_at_exit
from ..runtime.threads import use_threads
from ..runtime.tvm_runtime import tvm_ffi

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

compiling = threading.Lock()
"""Held while code is made, so that it is made once."""


def check_tensor(op: str, name: str, x: Any) -> None:
    """Refuse what is no tensor of floats in memory of the CPU.

    Raises
    ------
    InputError
        It is none, or it is empty.
    """
    if not isinstance(x, torch.Tensor):
        kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
        raise InputError(f"{op}: {name} is a {kind}; expected a torch.Tensor")
    if x.device.type != "cpu" or x.layout != torch.strided:
        raise InputError(f"{op}: {name} is {x.layout} on {x.device}; expected a strided tensor on the CPU")
    if x.dtype not in DTYPES:
        raise InputError(f"{op}: {name} has dtype {x.dtype}; allowed: {', '.join(map(str, DTYPES))}")
    if x.ndim == 0 or 0 in x.shape:
        raise InputError(
            f"{op}: {name} has shape {tuple(x.shape)}; expected a dimension or more, none of size 0"
        )


def signs(x: torch.Tensor) -> torch.Tensor:
    """+1.0 where a value is 0 or more, else −1.0, float32."""
    return (x >= 0).to(torch.float32).mul_(2).sub_(1)


def readable(x: torch.Tensor) -> torch.Tensor:
    """Values of the same sign as float32, as compiled code expects them in memory; ``x`` itself if it is so already."""
    if x.dtype == torch.float64:
        x = signs(x)  # a cast would make a zero of what is very small, whose sign counts as +1
    x = x.resolve_neg().float().contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


def aligned(array: np.ndarray) -> torch.Tensor:
    """A copy where compiled code can read it."""
    return torch.from_numpy(array).clone()


@waited_for_at_exit
def run(code: Any, *tensors: torch.Tensor) -> None:
    """Call compiled code on ``torch.get_num_threads()`` threads."""
    ffi = tvm_ffi()
    use_threads(torch.get_num_threads(), ffi)
    code(*map(ffi.from_dlpack, tensors))
