"""Kernels that happen to be of low rank → a k×1 and a 1×k convolution, exactly but for float rounding.

A dense k×k kernel with r independent column filters, (c·kh) × (o·kw) as a matrix of rank r, is a k×1 convolution to r
channels and a 1×k one (`decompose.spatial`). A depthwise kernel that is an outer product for every channel, a Gaussian
say, is two depthwise ones. `DispatchSeparable` decides then whether they run as a chain or multiplied out again.
"""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Method
from tvm_fastconv.decompose.spatial import spatial
from tvm_fastconv.topi.conv2d import Conv2dParams

from ..graph.conv_call import conv2d_of
from ..graph.layer_names import layer_name, with_layer_name
from ..graph.rewrite import CallRewriter, rewrite_calls

EXACT = 2e-6
"""Relative error of what counts as rounding: that of factors multiplied in float32."""

MAX_SHARE = 0.5
"""Of the dense multiplications that the two convolutions may take; with more, the dense one is faster."""

SPARE = 8
"""Rows by which a sample of a kernel exceeds the rank that is looked for."""


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeLowRank")
class CanonicalizeLowRank:
    """Split convolutions of low spatial rank, in NHWC.

    Parameters
    ----------
    methods : mapping, optional
        Layer name to what the user asked for; these layers are left alone.
    """

    def __init__(self, methods: Mapping[str, Method] | None = None) -> None:
        self.methods = methods or {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"nn.conv2d": self._conv2d})

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found, name = conv2d_of(call), layer_name(call) or ""
        if found is None or name in self.methods or 1 in found[0].kernel or min(found[0].padding) < 0:
            return None
        params, weight = found
        if not np.isfinite(weight).all():
            return None
        factors = _dense(weight) if params.groups == 1 else _depthwise(weight)
        if factors is None:
            return None
        (column, row), groups = factors, params.groups
        first = with_layer_name(_rows(call.args[0], column, params, groups), f"{name}.column")
        return with_layer_name(_columns(rewriter.builder_.emit(first), row, params, groups), name)


def _dense(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Column (r, c, kh, 1) and row (o, r, 1, kw) kernels of a dense one of low enough rank."""
    o, c, kh, kw = weight.shape
    largest = int(MAX_SHARE * weight.size / (c * kh + o * kw))
    matrix = weight.transpose(1, 2, 0, 3).reshape(c * kh, o * kw)
    # A sample of rows and columns has the rank of the whole, or its own size if that is less.
    size = largest + SPARE
    rng = np.random.default_rng(0)
    rows, columns = (rng.permutation(n)[:size] for n in matrix.shape)
    if largest < 1 or _rank(matrix[rows][:, columns]) > largest:
        return None
    factors = spatial(weight, error=EXACT)
    fits = len(factors.column) <= largest and _is_rounding(weight - factors.weight, weight)
    return (factors.column, factors.row) if fits else None


def _is_rounding(error: np.ndarray, weight: np.ndarray) -> bool:
    """Whether ``error`` is small beside each filter and each input channel: others may be many orders larger."""
    for axes in ((1, 2, 3), (0, 2, 3)):
        off, size = (np.sqrt(np.square(x, dtype=np.float64).sum(axes)) for x in (error, weight))
        if (off > EXACT * size).any():
            return False
    return True


def _depthwise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Column (o, 1, kh, 1) and row (o, 1, 1, kw) kernels of a depthwise one, each an outer product."""
    o, per_group, kh, kw = weight.shape
    if per_group > 1 or kh + kw > MAX_SHARE * kh * kw:
        return None
    left, sizes, right = np.linalg.svd(weight[:, 0].astype(np.float64), full_matrices=False)
    if (sizes[:, 1] > EXACT * sizes[:, 0]).any():
        return None
    root = np.sqrt(sizes[:, 0])[:, None]
    column, row = (root * left[:, :, 0]).astype(np.float32), (root * right[:, 0]).astype(np.float32)
    return column.reshape(o, 1, kh, 1), row.reshape(o, 1, 1, kw)


def _rank(matrix: np.ndarray) -> int:
    sizes = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return int((sizes > EXACT * sizes[0]).sum())


def _rows(data: relax.Expr, kernel: np.ndarray, params: Conv2dParams, groups: int) -> relax.Call:
    top, _, bottom, _ = params.padding
    return _convolution(
        data, kernel, (params.stride[0], 1), (top, 0, bottom, 0), (params.dilation[0], 1), groups
    )


def _columns(data: relax.Expr, kernel: np.ndarray, params: Conv2dParams, groups: int) -> relax.Call:
    _, left, _, right = params.padding
    # The channels of a multiplier are there already.
    groups = groups if groups == 1 else len(kernel)
    return _convolution(
        data, kernel, (1, params.stride[1]), (0, left, 0, right), (1, params.dilation[1]), groups
    )


def _convolution(
    data: relax.Expr,
    kernel: np.ndarray,
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> relax.Call:
    weight = relax.const(np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)))
    return relax.op.nn.conv2d(data, weight, strides, padding, dilation, groups, "NHWC", "OHWI")
