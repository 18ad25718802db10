"""Operators: problem, parameters, NumPy reference, tensor expression. The schedules are in ``topi.schedules``.

Importing the package registers all of them.
"""

from . import (
    batch_matmul,
    bit_max_pool2d,
    bitpack,
    bitpack_planar,
    bitserial_conv2d,
    bitserial_depthwise_conv2d,
    chain,
    conv2d,
    dense,
    depthwise_conv2d,
    fixed_stencil_conv2d,
    grouped_conv2d,
    int8_conv2d,
    lookup_conv2d,
    lookup_dense,
    pointwise_planar,
    pool2d,
    tf32_conv2d,
    transpose,
    winograd_conv2d,
    xnor_gemm,
)

__all__ = [
    "batch_matmul",
    "bit_max_pool2d",
    "bitpack",
    "bitpack_planar",
    "bitserial_conv2d",
    "bitserial_depthwise_conv2d",
    "chain",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "fixed_stencil_conv2d",
    "grouped_conv2d",
    "int8_conv2d",
    "lookup_conv2d",
    "lookup_dense",
    "pointwise_planar",
    "pool2d",
    "tf32_conv2d",
    "transpose",
    "winograd_conv2d",
    "xnor_gemm",
]
