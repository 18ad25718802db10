"""Whether what was imported for a node is of the type that PyTorch's node has: a wrong dtype is a wrong value too."""

from typing import Any

import torch
from torch import fx
from tvm import relax

from .torch_rules import shape


def check_type(node: fx.Node, value: Any) -> None:
    """Compare dtype and known sizes of a tensor with those of the node it stands for.

    Quantized values are left out: they stay float32 until they are dequantized.

    Raises
    ------
    TypeError
        They differ.
    """
    want = node.meta.get("val")
    made = isinstance(value, relax.Expr) and isinstance(value.ty, relax.TensorType)
    quantized = getattr(node.target, "namespace", "") == "quantized_decomposed"
    if node.op != "call_function" or quantized or not made or not isinstance(want, torch.Tensor):
        return
    dtype, sizes = str(want.dtype).removeprefix("torch."), list(want.shape)
    got = list(map(str, shape(value))) if value.ty.shape is not None else None
    fits = got is None or (
        len(got) == len(sizes) and all(str(b) == a for a, b in zip(got, sizes, strict=True) if _known(a, b))
    )
    if str(value.ty.dtype) != dtype or not fits:
        raise TypeError(
            f"it is {dtype} {tuple(sizes)} in PyTorch and {value.ty.dtype} ({', '.join(got or [])}) here"
        )


def _known(*sizes: Any) -> bool:
    return all(str(size).isdecimal() for size in sizes)
