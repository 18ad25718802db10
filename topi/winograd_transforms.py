"""Winograd's transforms F(m×m, r×r): their matrices, and their application to values of a tensor expression.

The matrices come from the Cook-Toom construction at points 0, ±p, ... and infinity; points in pairs let each transform
share the even and odd parts of its rows.

The points ±3/4, ±3/2 for tiles of 6×6 were chosen by measuring: on ReLU inputs and random 3×3 kernels of 512 channels
the largest error is 2.4e-6 of the largest output, with the customary ±1, ±2 it is 1.2e-5, directly 3e-7.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import tvm
from tvm import tirx

POINTS = {4: (Fraction(1),), 6: (Fraction(3, 4), Fraction(3, 2))}
"""Side of a tile, m + r − 1 → the positive ones of the interpolation points."""

OUTPUTS = {3: (2, 4), 4: (3,), 5: (2,)}
"""r → every m there is."""


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


def row_of(index: tvm.ir.Expr, rows: list[tvm.ir.Expr]) -> tvm.ir.Expr:
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


def data_rows(m: int, taps: int, values: list[tvm.ir.Expr]) -> list[tvm.ir.Expr]:
    """Bᵀ · values. The rows of a pair of points are even ± odd part: compilers compute each part once."""
    _, _, matrix = winograd_matrices(m, taps)
    rows = [_weighted(values, matrix[0])]
    for plus in range(1, len(values) - 1, 2):
        row, mirrored = matrix[plus], matrix[plus + 1]
        even = _weighted(values, (row + mirrored) / 2)
        odd = _weighted(values, (row - mirrored) / 2)
        rows += [even + odd, even - odd]
    return [*rows, _weighted(values, matrix[-1])]


def output_rows(m: int, taps: int, values: list[tvm.ir.Expr]) -> list[tvm.ir.Expr]:
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
