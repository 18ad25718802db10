"""Pack the signs of a matrix, along its rows or down its columns: what `xnor_gemm` multiplies.

Bit j of word w is the sign of k = 32·w + j. Where K is no multiple of 32, the last word is made of the last 32 values
and shifted down by those that the word before it has already. In the same way the last vector of columns overlaps the
one before it. So no value is padded, and no condition is in the way of a vector.
"""

import numpy as np
import tvm
from tvm import te, tirx

from .bitpack import pack_decisions
from .bits import WORD, WORD_BITS, pack_bits, word_count
from .window import extents, reduce_axes, stage


def pack_rows_reference(data: np.ndarray, words: int) -> np.ndarray:
    """Pack float32 (m, k) into uint32 (m, words), slowly; words behind the last are 0."""
    packed = pack_bits(data >= 0)
    return np.pad(packed, [(0, 0), (0, words - packed.shape[1])])


def pack_columns_reference(data: np.ndarray, panel: int, lanes: int, words: int) -> np.ndarray:
    """Pack float32 (k, n) into uint32 (panels, words, panel), slowly."""
    panels, n = -(-data.shape[1] // panel), data.shape[1]
    starts = [vector_start(v, lanes, n) for v in range(panels * panel // lanes)]
    columns = np.concatenate([np.arange(start, start + lanes) for start in starts])
    packed = pack_rows_reference(data.T, words)[columns]
    return np.ascontiguousarray(packed.reshape(panels, panel, words).transpose(0, 2, 1))


def pack_rows(
    data: te.Tensor, shape: tuple[int | tvm.ir.Expr, int], words: int, attrs: dict[str, str]
) -> te.Tensor:
    """Pack the rows of ``data`` in tiles.

    Parameters
    ----------
    data : Tensor, (m, k), float32
        ``m`` may be symbolic.
    shape : (tiles, rows of a tile)
        Enough for m; rows behind the last repeat it.
    words : int
        At least `word_count` (k).

    Returns
    -------
    Tensor, (*shape, words), uint32
    """
    m, k = data.shape[0], int(data.shape[1])

    def row(tile: tirx.Var, y: tirx.Var) -> tvm.ir.Expr:
        return tirx.min(tile * shape[1] + y, m - 1)

    if k < WORD_BITS:
        (j,) = reduce_axes(j=k)

        def word_of(tile: tirx.Var, y: tirx.Var, word: tirx.Var) -> tvm.ir.Expr:
            return te.sum(_bit_if(tirx.all(data[row(tile, y), j] >= 0, word < 1), j.var), axis=[j])

        return te.compute(extents(*shape, words), word_of, name="pack_rows", attrs=attrs)
    zero = tirx.const(0, data.dtype)
    zeros = te.compute(extents(WORD_BITS), lambda _: zero, name="zeros", attrs=stage("zeros"))
    masks = pack_decisions(
        extents(*shape, words),
        lambda tile, y, word, j: tirx.GE(data[row(tile, y), _first(word, k) + j], zeros[j]),
        stage("row_masks"),
    )
    return te.compute(
        masks.shape,
        lambda tile, y, word: _kept(masks[tile, y, word], word, k),
        name="pack_rows",
        attrs=attrs,
    )


def pack_columns(data: te.Tensor, panel: int, lanes: int, words: int, attrs: dict[str, str]) -> te.Tensor:
    """Pack the columns of ``data`` into panels: a vector of neighbouring columns gains one bit from each row.

    Parameters
    ----------
    data : Tensor, (k, n), float32
    panel : int
        Columns of a panel, a multiple of ``lanes``.
    lanes : int
        Columns of a vector, at most n. Vector v starts at column `vector_start` (v, lanes, n).
    words : int
        At least `word_count` (k).

    Returns
    -------
    Tensor, (panels, words, panel), uint32
    """
    k, n = (int(extent) for extent in data.shape)
    panels = -(-n // panel)
    (j,) = reduce_axes(j=min(k, WORD_BITS))

    def bits(word: tirx.Var, vector: tirx.Var, lane: tirx.Var) -> tvm.ir.Expr:
        value = data[_first(word, k) + j, vector_start(vector, lanes, n) + lane]
        return te.sum(_bit_if(value >= 0, j.var), axis=[j])

    shape = extents(words, panels * panel // lanes, lanes)
    masks = te.compute(shape, bits, name="column_masks", attrs=stage("column_masks"))
    return te.compute(
        extents(panels, words, panel),
        lambda p, word, c: _kept(masks[word, p * (panel // lanes) + c // lanes, c % lanes], word, k),
        name="pack_columns",
        attrs=attrs,
    )


def vector_start(vector: int | tirx.Var, lanes: int, n: int) -> int | tvm.ir.Expr:
    """The first column of a vector: those that would reach behind the last column overlap the ones before."""
    if isinstance(vector, int):
        return min(vector * lanes, n - lanes)
    return tirx.min(vector * lanes, n - lanes)


def _bit_if(condition: tvm.ir.Expr, at: tirx.Var) -> tvm.ir.Expr:
    """The word of which bit ``at`` alone is 1, or none."""
    return tirx.Select(condition, tirx.const(1, WORD) << at.astype(WORD), tirx.const(0, WORD))


def _first(word: tirx.Var, k: int) -> tvm.ir.Expr:
    """Where the 32 values start that ``word`` is made of."""
    if k < WORD_BITS:
        return tirx.const(0, "int64")
    return word * WORD_BITS if k % WORD_BITS == 0 else tirx.min(word * WORD_BITS, k - WORD_BITS)


def _kept(mask: tvm.ir.Expr, word: tirx.Var, k: int) -> tvm.ir.Expr:
    """The bits of ``mask`` that belong to ``word``; none where it lies behind the last word of k."""
    last = word_count(k)
    if k > WORD_BITS and k % WORD_BITS:
        known = tirx.max(word * WORD_BITS - (k - WORD_BITS), 0)
        mask = mask >> tirx.min(known, WORD_BITS - 1).astype(WORD)
    return tirx.Select(word < last, mask, tirx.const(0, WORD))
