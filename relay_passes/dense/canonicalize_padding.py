"""Zeros laid around a plane in front of a convolution become the convolution's own padding.

A sign between them moves to the plane: the sign of zero is zero.
"""

import tvm
from tvm import relax

from ..graph.rewrite import CallRewriter, Definitions, keep_name, op_name, rewrite_calls

Padding = tuple[int, int, int, int]


@tvm.transform.module_pass(opt_level=0, name="CanonicalizePadding")
class CanonicalizePadding:
    """``conv2d(pad(x, 0))`` → ``conv2d(x)`` with wider padding, ``sign(pad(x, 0))`` → ``pad(sign(x), 0)``, in NCHW."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"sign": _sign_inside, "nn.conv2d": _absorb})


def _sign_inside(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    found = constant_border(rewriter, call.args[0], "NCHW")
    if found is None or found[1] != 0:
        return None
    border = rewriter.definition(call.args[0]).attrs
    return relax.op.nn.pad(rewriter.emit(relax.op.sign(found[0]), call), border.pad_width, "constant", 0.0)


def _absorb(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    a, found = call.attrs, constant_border(rewriter, call.args[0], "NCHW")
    if found is None or found[1] != 0 or a.data_layout != "NCHW":
        return None
    source, _, border = found
    padding = [int(own) + extra for own, extra in zip(a.padding, border, strict=True)]
    wider = relax.op.nn.conv2d(
        source, call.args[1], a.strides, padding, a.dilation, a.groups, a.data_layout, a.kernel_layout
    )
    return keep_name(wider, call)


def constant_border(
    graph: Definitions, data: relax.Expr, layout: str
) -> tuple[relax.Expr, float, Padding] | None:
    """(plane, value, (top, left, bottom, right)) where ``data`` is a plane with a border of one value."""
    value = graph.definition(data)
    if op_name(value) != "nn.pad" or value.attrs.pad_mode != "constant" or len(value.ty.shape) != 4:
        return None
    widths = [int(width) for width in value.attrs.pad_width]
    pairs = {axis: tuple(widths[2 * i : 2 * i + 2]) for i, axis in enumerate(layout)}
    if pairs["N"] != (0, 0) or pairs["C"] != (0, 0) or min(widths) < 0:
        return None
    (top, bottom), (left, right) = pairs["H"], pairs["W"]
    return value.args[0], float(value.attrs.pad_value), (top, left, bottom, right)
