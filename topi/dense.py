"""Fully connected layer: the register tile of `conv2d` over rows instead of pixels."""

import numpy as np
import tvm
from tvm import te, tirx

from .schedules.tile import TileKnobs
from .window import extents, reduce_axes


def dense_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data @ weight.T`` in float64; ``data`` (..., k), ``weight`` (o, k), result (..., o) float32."""
    return (data.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)


def dense(
    data: te.Tensor, weight: te.Tensor, out_features: int, tile: TileKnobs, attrs: dict[str, str]
) -> te.Tensor:
    """Multiply the rows of ``data`` by packed ``weight``.

    Parameters
    ----------
    data : Tensor, (..., rows, k), float32
    weight : Tensor, (panels, 1, 1, k, panel)
        From `conv2d.pack_weight` of an (o, k, 1, 1) kernel.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (..., rows, out_features)
    """
    *lead, rows, k = data.shape
    panels, _, _, _, panel = (int(extent) for extent in weight.shape)
    whole = -(-rows // tile.tile_w) * tile.tile_w
    window = data
    if not isinstance(rows, int | tirx.IntImm) or int(whole) != int(rows):
        zero = tirx.const(0, data.dtype)
        window = te.compute(
            extents(*lead, whole, k),
            lambda *at: tirx.if_then_else(at[-2] < rows, data[at], zero),
            name="window",
        )
    (rc,) = reduce_axes(rc=k)

    def product(*at: tirx.Var) -> tvm.ir.Expr:
        o = at[-1]
        return te.sum(window[(*at[:-1], rc)] * weight[o // panel, 0, 0, rc, o % panel], axis=[rc])

    sums = te.compute(extents(*lead, whole, panels * panel), product, name="dense", attrs=attrs)
    return te.compute(extents(*lead, rows, out_features), lambda *at: sums[at], name="crop")
