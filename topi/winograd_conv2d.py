"""Winograd convolution F(m×m, r×r), stride 1, NHWC: 36 multiplications per 4×4 outputs where direct 3×3 takes 144.

``Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A`` (Lavin and Gray, 1509.09308), with the sum over input channels between the two
transforms, so that its middle is (m + r − 1)² matrix products. The matrices come from the Cook-Toom construction at
points 0, ±p, ... and infinity; points in pairs let each transform share the even and odd parts of its rows.

The points ±3/4, ±3/2 for tiles of 6×6 were chosen by measuring: on ReLU inputs and random 3×3 kernels of 512 channels
the largest error is 2.4e-6 of the largest output, with the customary ±1, ±2 it is 1.2e-5, directly 3e-7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem
from .machine import Machine
from .operators import Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .schedules.cpu.tile import TileLoops
from .schedules.cpu.winograd import WinogradKnobs, WinogradLoops
from .window import extents, padded_window, reduce_axes, stage

POINTS = {4: (Fraction(1),), 6: (Fraction(3, 4), Fraction(3, 2))}
"""Side of a tile, m + r − 1 → the positive ones of the interpolation points."""

OUTPUTS = {3: (2, 4), 5: (2,)}
"""r → every m there is."""


@dataclass(frozen=True, kw_only=True)
class WinogradProblem(ConvProblem):
    """A convolution by F(m×m): one of `OUTPUTS` for its kernel."""

    m: int

    @property
    def winograd_loops(self) -> WinogradLoops:
        """As its cost model sees it."""
        (height, width), m, outputs = self.output_size, self.m, self.conv.out_channels
        size, columns = m + self.conv.kernel[0] - 1, -(-width // m)
        tile = TileLoops(
            batch=self.batch,
            height=-(-height // m),
            width=columns,
            out_channels=outputs,
            groups=1,
            reduction=self.channels,
            strip_row_bytes=4 * size**2 * columns * (self.channels + outputs),
            weight_bytes=4 * size**2 * self.channels * outputs,
        )
        return WinogradLoops(tile=tile, m=m, size=size)


def winograd_matrices(m: int, taps: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Aᵀ, G, Bᵀ) of F(m, taps): shapes (m, size), (size, taps), (size, size) with size = m + taps − 1, float64.

    Rows of Bᵀ and columns of Aᵀ are in the order 0, +p, -p, ..., infinity.
    """
    size = m + taps - 1
    points = [Fraction(0), *(sign * p for p in POINTS[size] for sign in (1, -1))]
    evaluate = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    kernels, data = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        kernels.append([p**i / scale for i in range(taps)])
        data.append([*_polynomial(others), Fraction(0)])
    kernels.append([Fraction(0)] * (taps - 1) + [Fraction(1)])
    data.append(_polynomial(points))
    assert len(data) == size
    a, g, b = (np.array(matrix, dtype=np.float64) for matrix in (evaluate, kernels, data))
    return a, g, b


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of ∏ (x - root), lowest power first."""
    product = [Fraction(1)]
    for root in roots:
        product = [
            low - root * high
            for low, high in zip([Fraction(0), *product], [*product, Fraction(0)], strict=True)
        ]
    return product


def winograd_conv2d_reference(
    data: np.ndarray, weight: np.ndarray, params: Conv2dParams, m: int
) -> np.ndarray:
    """The same algorithm in NumPy, float32 throughout; arguments as for `conv2d_reference`."""
    taps = weight.shape[-1]
    a, _, b = (matrix.astype(np.float32) for matrix in winograd_matrices(m, taps))
    transformed, size = transform_weight(weight, m), m + taps - 1
    n, h, w, c = data.shape
    oh, ow = params.output_size(h, w)
    rows, cols = -(-oh // m), -(-ow // m)
    top, left = params.padding[:2]
    padded = np.zeros((n, rows * m + taps - 1, cols * m + taps - 1, c), np.float32)
    padded[:, top : top + h, left : left + w] = data[:, : padded.shape[1] - top, : padded.shape[2] - left]
    out = np.zeros((n, rows * m, cols * m, params.out_channels), np.float32)
    for y in range(0, rows * m, m):
        for x in range(0, cols * m, m):
            tile = padded[:, y : y + size, x : x + size]
            tile = np.einsum("ai,nijc,bj->abnc", b, tile, b, optimize=True)
            sums = tile @ transformed
            out[:, y : y + m, x : x + m] = np.einsum("ia,abno,jb->nijo", a, sums, a, optimize=True)
    return out[:, :oh, :ow]


def transform_weight(weight: np.ndarray, m: int) -> np.ndarray:
    """(o, c, r, r) → G g Gᵀ as (size, size, c, o), computed in float64."""
    _, g, _ = winograd_matrices(m, weight.shape[-1])
    return np.einsum("ai,ocij,bj->abco", g, weight.astype(np.float64), g, optimize=True).astype(np.float32)


def pack_winograd_weight(weight: np.ndarray, m: int, panel: int) -> np.ndarray:
    """(o, c, r, r) → (size, size, panels, c, panel), output channels padded with zeros."""
    transformed = transform_weight(weight, m)
    *size, c, o = transformed.shape
    padded = np.zeros((*size, c, -(-o // panel) * panel), np.float32)
    padded[..., :o] = transformed
    return np.ascontiguousarray(padded.reshape(*size, c, -1, panel).swapaxes(2, 3))


def winograd_error(weight: np.ndarray, m: int, tiles: int = 16) -> float:
    """Largest error of F(m×m) for these weights on random ReLU inputs, relative to the largest output."""
    rng, taps = np.random.default_rng(0), weight.shape[-1]
    size = m + taps - 1
    data = np.maximum(rng.standard_normal((tiles, size, size, weight.shape[1])), 0).astype(np.float32)
    params = Conv2dParams(kernel=(taps, taps), out_channels=weight.shape[0])
    got = winograd_conv2d_reference(data, weight, params, m)
    patches = np.stack([data[:, i : i + m, j : j + m] for i in range(taps) for j in range(taps)], axis=-1)
    kernel = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    want = np.tensordot(patches.astype(np.float64), kernel, axes=([3, 4], [1, 2]))
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def winograd_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    params: Conv2dParams,
    m: int,
    tile: WinogradKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Convolve ``data`` with transformed and packed square kernels, stride 1.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or, for ``data_layout`` "NCHW", (n, c, h, w), float32
    weight : Tensor, (size, size, panels, c, panel)
        From `pack_winograd_weight` with ``panel = tile.panel``.
    params : Conv2dParams
        Kernel 3×3 or 5×5, stride, dilations and groups 1.
    m : int
        Outputs per side of a tile, see `OUTPUTS`.

    Returns
    -------
    Tensor, (n, oh, ow, out_channels)
    """
    n, h, w = (data.shape[params.data_layout.index(axis)] for axis in "NHW")
    oh, ow = params.output_size(int(h), int(w))
    size, _, panels, c, panel = (int(extent) for extent in weight.shape)
    rows, cols = tile.round_up(-(-oh // m), -(-ow // m))
    around, taps = size - m, params.kernel[0]
    window = padded_window(
        data, (rows * m + around, cols * m + around), params.padding, 0.0, data_layout=params.data_layout
    )

    def columns(a: tirx.Var, b: tirx.Var, ty: tirx.Var, x: tirx.Var, k: tirx.Var) -> tvm.ir.Expr:
        return _row_of(a, _data_rows(m, taps, [window[b, ty * m + i, x, k] for i in range(size)]))

    down = te.compute(
        extents(size, n, rows, cols * m + around, c),
        columns,
        name="data_columns",
        attrs=stage("data_columns"),
    )
    spectrum = te.compute(
        extents(size, size, n, rows, cols, c),
        lambda a, b, i, ty, tx, k: _row_of(
            b, _data_rows(m, taps, [down[a, i, ty, tx * m + j, k] for j in range(size)])
        ),
        name="data_rows",
        attrs=stage("data_rows"),
    )
    (rc,) = reduce_axes(rc=c)
    sums = te.compute(
        extents(size, size, n, rows, cols, panels * panel),
        lambda a, b, i, ty, tx, o: te.sum(
            spectrum[a, b, i, ty, tx, rc] * weight[a, b, o // panel, rc, o % panel], axis=[rc]
        ),
        name="winograd_conv2d",
        attrs=attrs,
    )
    back = te.compute(
        extents(m, size, n, rows, cols, panels * panel),
        lambda i, b, at, ty, tx, o: _row_of(
            i, _output_rows(m, taps, [sums[a, b, at, ty, tx, o] for a in range(size)])
        ),
        name="output_columns",
        attrs=stage("output_columns"),
    )

    def pixel(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        values = [back[y % m, j, b, y // m, x // m, o] for j in range(size)]
        return _row_of(x % m, _output_rows(m, taps, values))

    return te.compute(extents(n, oh, ow, params.out_channels), pixel, name="crop")


def _row_of(index: tvm.ir.Expr, rows: list[tvm.ir.Expr]) -> tvm.ir.Expr:
    """Row ``index``; once its loop is unrolled, one of the rows is left."""
    chosen = rows[-1]
    for number in range(len(rows) - 2, -1, -1):
        chosen = tirx.Select(index == number, rows[number], chosen)
    return chosen


def _weighted(values: Sequence[tvm.ir.Expr], weights: Sequence[float] | np.ndarray) -> tvm.ir.Expr:
    total = None
    for value, weight in zip(values, weights, strict=True):
        if weight == 0:
            continue
        term = value if weight == 1 else value * tirx.const(float(weight), "float32")
        total = term if total is None else total + term
    return total


def _data_rows(m: int, taps: int, values: list[tvm.ir.Expr]) -> list[tvm.ir.Expr]:
    """Bᵀ · values. The rows of a pair of points are even ± odd part: LLVM computes each part once."""
    _, _, matrix = winograd_matrices(m, taps)
    rows = [_weighted(values, matrix[0])]
    for plus in range(1, len(values) - 1, 2):
        row, mirrored = matrix[plus], matrix[plus + 1]
        even = _weighted(values, (row + mirrored) / 2)
        odd = _weighted(values, (row - mirrored) / 2)
        rows += [even + odd, even - odd]
    return [*rows, _weighted(values, matrix[-1])]


def _output_rows(m: int, taps: int, values: list[tvm.ir.Expr]) -> list[tvm.ir.Expr]:
    """Aᵀ · values, through the sums and differences of each pair of points."""
    matrix, _, _ = winograd_matrices(m, taps)
    plus = range(1, len(values) - 1, 2)
    sums = [values[k] + values[k + 1] for k in plus]
    differences = [values[k] - values[k + 1] for k in plus]
    rows = []
    for i, row in enumerate(matrix):
        pairs = sums if i % 2 == 0 else differences
        rows.append(_weighted([values[0], *pairs, values[-1]], [row[0], *(row[k] for k in plus), row[-1]]))
    return rows


def make_winograd_conv2d(
    problem: WinogradProblem, knobs: WinogradKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`winograd_conv2d` alone."""
    (data, weight), m, params = problem.random(rng), problem.m, problem.conv
    arrays = (problem.stored(data), pack_winograd_weight(weight, m, knobs.panel))
    attrs = operator_attrs("winograd_conv2d", problem, knobs)
    how = {"params": params, "m": m, "tile": knobs, "attrs": attrs}

    def reference() -> np.ndarray:
        return winograd_conv2d_reference(data, weight, params, m)

    return activated_sample(winograd_conv2d, arrays, reference, params.out_channels, rng, **how)


register_operator("winograd_conv2d", WinogradProblem)
register_knobs("llvm", "winograd_conv2d", WinogradKnobs, make_winograd_conv2d)
