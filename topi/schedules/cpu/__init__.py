"""Templates for every CPU: register tiles, windows, packing; each registers itself."""

from . import (
    bitserial,
    bitserial_depthwise,
    conv2d,
    generic,
    grouped,
    lookup,
    lookup_dense,
    pack_matrix,
    rows,
    window,
    winograd,
    xnor_gemm,
)

__all__ = [
    "bitserial",
    "bitserial_depthwise",
    "conv2d",
    "generic",
    "grouped",
    "lookup",
    "lookup_dense",
    "pack_matrix",
    "rows",
    "window",
    "winograd",
    "xnor_gemm",
]
