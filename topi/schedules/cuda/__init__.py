"""Templates for GPUs: tiles in shared memory and registers, each thread's own sums; each registers itself."""

from . import (
    bitserial,
    chain,
    gemm,
    generic,
    grouped,
    lookup,
    lookup_conv2d_loops,
    lookup_dense,
    lookup_dense_loops,
    pointwise_planar_loops,
    tf32,
    window,
    winograd,
    words,
    xnor_gemm,
)

__all__ = [
    "bitserial",
    "chain",
    "gemm",
    "generic",
    "grouped",
    "lookup",
    "lookup_conv2d_loops",
    "lookup_dense",
    "lookup_dense_loops",
    "pointwise_planar_loops",
    "tf32",
    "window",
    "winograd",
    "words",
    "xnor_gemm",
]
