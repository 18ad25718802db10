"""Example inputs: what a caller may hand over, and whether it fits the imported function."""

from typing import Any

import numpy as np
import torch
import tvm
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from tvm_fastconv.errors import ModelError

HALVES = (torch.float16, torch.bfloat16)


def example_tensors(given: Any) -> tuple:
    """Return example inputs as a tuple of tensors (or nested lists of tensors).

    Raises
    ------
    ModelError
        Nothing was given, or something that is not a non-empty tensor or array.
    """
    if given is None:
        raise ModelError(
            "example inputs are missing: give one tensor or array per input of the model's forward()"
        )
    if isinstance(given, torch.Tensor | np.ndarray):
        given = (given,)
    if not isinstance(given, tuple | list):
        raise ModelError(
            f"example inputs are a {type(given).__name__}; allowed: a tensor, a NumPy array, "
            "or a tuple of them in the order of forward()"
        )
    leaves, structure = pytree.tree_flatten(tuple(given))
    return pytree.tree_unflatten([_tensor(leaf, index) for index, leaf in enumerate(leaves)], structure)


def _tensor(leaf: Any, index: int) -> torch.Tensor:
    if isinstance(leaf, np.ndarray):
        try:
            leaf = torch.tensor(leaf)
        except TypeError as error:
            raise ModelError(
                f"example input {index} is an array of {leaf.dtype}, which is no tensor"
            ) from error
    if not isinstance(leaf, torch.Tensor):
        raise ModelError(
            f"example input {index} is a {type(leaf).__name__}; only tensors and NumPy arrays are inputs of a "
            "compiled model: bind other arguments in a wrapping module"
        )
    if without_data(leaf):
        raise ModelError(f"example input {index} is a {type(leaf).__name__} on {leaf.device} without data")
    if leaf.is_complex():
        raise ModelError(f"example input {index} is {leaf.dtype}: complex numbers are not supported")
    if leaf.layout is not torch.strided:
        raise ModelError(
            f"example input {index} is of layout {leaf.layout}; only dense tensors are supported"
        )
    if leaf.numel() == 0:
        raise ModelError(
            f"example input {index} has shape {tuple(leaf.shape)}: every size must be at least 1"
        )
    return leaf.detach().resolve_conj().resolve_neg()


def without_data(tensor: torch.Tensor) -> bool:
    """Whether a tensor has a shape only: on the device ``meta``, or a fake one."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def example_arrays(mod: tvm.IRModule, names: tuple[str, ...], given: Any) -> tuple[np.ndarray, ...] | None:
    """Return example inputs as arrays that fit the parameters of ``main``; half precision becomes float32.

    Raises
    ------
    ModelError
        The number, a shape or a dtype differs.
    """
    if given is None:
        return None
    leaves = pytree.tree_leaves(example_tensors(given))
    if len(leaves) != len(names):
        raise ModelError(f"{len(leaves)} example inputs for {len(names)} inputs ({', '.join(names)})")
    arrays = [(leaf.float() if leaf.dtype in HALVES else leaf).cpu().numpy() for leaf in leaves]
    for name, array, parameter in zip(names, arrays, mod["main"].params, strict=True):
        sizes = [getattr(size, "value", size) for size in parameter.ty.shape]
        fits = array.ndim == len(sizes) and all(
            size == actual or not isinstance(size, int)
            for size, actual in zip(sizes, array.shape, strict=True)
        )
        if not fits or str(array.dtype) != str(parameter.ty.dtype):
            raise ModelError(
                f"example input '{name}' is {array.dtype} {array.shape}; "
                f"the model takes {parameter.ty.dtype} ({', '.join(map(str, sizes))})"
            )
    return tuple(arrays)
