"""What operators on PyTorch tensors share: which tensors they take, and the form that compiled code reads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..runtime.arrays import ALIGNMENT
from .places import PLACES

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

compiling = threading.Lock()
"""Held while code is made, so that it is made once."""


def check_tensor(op: str, name: str, x: Any) -> None:
    """Refuse what is no tensor of floats in memory of the CPU or of the first GPU.

    Raises
    ------
    InputError
        It is none, or it is empty.
    """
    if not isinstance(x, torch.Tensor):
        kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
        raise InputError(f"{op}: {name} is a {kind}; expected a torch.Tensor")
    if x.device.type not in PLACES or x.device.index or x.layout != torch.strided:
        places = "the CPU or the first GPU"
        raise InputError(f"{op}: {name} is {x.layout} on {x.device}; expected a strided tensor on {places}")
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


def aligned(array: np.ndarray, place: str) -> torch.Tensor:
    """A copy where compiled code can read it: in memory of a device of type ``place``."""
    copy = torch.from_numpy(array).clone()
    return copy.to(place)
