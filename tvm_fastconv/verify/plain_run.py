"""A Relax graph run as it stands, by code that is not ours: what compiled models and approximations are compared with.

PyTorch computes the float32 convolutions in NHWC, in a tenth of the time that TVM's scalar loops take; for some of them
TVM has no loops at all. TVM's own, unscheduled, do the rest, but where they are not exact (`legalize.EXACT`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.rewrite import CallRewriter, rewrite_calls
from tvm_fastconv.relay_passes.module.legalize import EXACT

Arrays = tuple[np.ndarray, ...]

_CONV2D = "fastconv.plain.conv2d"


def plain_run(mod: tvm.IRModule, triple: str | None = None) -> Callable[..., Arrays]:
    """Make ``mod`` runnable on this machine.

    Parameters
    ----------
    mod : IRModule
        Standard operators; ``main`` takes tensors and returns one or a tuple of them.
    triple : str, optional
        LLVM's name of this machine, where it should not be found out; that of another is of no use.

    Returns
    -------
    callable
        ``run(*inputs) -> (output, ...)``, arrays.
    """
    here = triple is not None and triple.split("-")[0] == process_machine()
    target = tvm.target.Target({"kind": "llvm"} | ({"mtriple": triple} if here else {}))
    rules = {"nn.conv2d": _by_torch, "nn.conv2d_transpose": _by_torch}
    with target:
        mod = rewrite_calls(tvm.transform.Sequential(pipeline.fold_constants())(mod), rules)
        mod = relax.transform.LegalizeOps(EXACT)(mod)
    machine = relax.VirtualMachine(tvm.compile(mod, target), tvm.cpu())

    def run(*inputs: np.ndarray) -> Arrays:
        outputs = machine["main"](*map(tvm.runtime.tensor, inputs))
        return tuple(
            out.numpy() for out in ([outputs] if isinstance(outputs, tvm.runtime.Tensor) else outputs)
        )

    return run


def _by_torch(_rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    """Rule for convolutions: a call of `_conv2d` in NHWC and float32, ``None`` otherwise."""
    attrs = call.attrs
    if attrs.data_layout != "NHWC" or attrs.kernel_layout not in ("OHWI", "IOHW"):
        return None
    if any(arg.ty.dtype != "float32" for arg in call.args):
        return None
    top, left, bottom, right = [int(n) for n in attrs.padding]
    extra = [int(n) for n in attrs.output_padding] if attrs.kernel_layout == "IOHW" else [-1, -1]
    numbers = [top, left, bottom, right, *map(int, attrs.strides), *map(int, attrs.dilation), *extra]
    scalars = [relax.prim_value(number) for number in (*numbers, int(attrs.groups))]
    return relax.call_dps_packed(_CONV2D, [*call.args, *scalars], out_ty=call.ty)


@tvm_ffi.register_global_func(_CONV2D, override=True)
def _conv2d(data: Any, weight: Any, *arguments: Any) -> None:
    """Convolve ``data`` (n, h, w, c) with ``weight``, (o, h, w, c) or transposed (c, o, h, w), into the last one."""
    import torch
    from torch.nn import functional

    top, left, bottom, right, *rest, groups, result = arguments
    stride, dilation, extra = rest[:2], rest[2:4], rest[4:6]
    x, kernel, out = (torch.from_dlpack(tensor) for tensor in (data, weight, result))
    x = x.permute(0, 3, 1, 2)
    if extra[0] < 0:
        kernel = kernel.permute(0, 3, 1, 2)
        x = functional.pad(x, (left, right, top, bottom))
        made = functional.conv2d(x, kernel, stride=stride, dilation=dilation, groups=groups)
    else:
        made = functional.conv_transpose2d(
            x, kernel, stride=stride, output_padding=extra, dilation=dilation, groups=groups
        )
        rows, cols = made.shape[2] - top - bottom, made.shape[3] - left - right
        made = made[:, :, top : top + rows, left : left + cols]
    out.copy_(made.permute(0, 2, 3, 1))
