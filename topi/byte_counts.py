"""Popcounts in two steps, for processors that count bits in bytes only (SSE, AVX2, NEON).

``bytes``
    per lane of 32 bits, four sums side by side, one for each byte of the word: up to 31 words of eight bits fit;
``anchor``
    the four sums added up, and over all runs of up to 31 words.

The count of each byte of a word is written in arithmetic that any processor has; the schedule replaces a whole vector
of it by LLVM's popcount of bytes (two table lookups on x86, ``cnt`` on ARM).
"""

from collections.abc import Callable

import tvm
from tvm import te, tirx

from .bits import WORD
from .window import reduce_axes, stage, steps

MAX_RUN = 31
"""Words of eight differing bits per byte that a byte can count."""

Bits = Callable[[tuple[tirx.Var, ...], tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr], tvm.ir.Expr]


def byte_popcount(word: tvm.ir.Expr) -> tvm.ir.Expr:
    """The number of bits in each byte of ``word``, in that byte."""

    def mask(pattern: int) -> tvm.ir.Expr:
        return tirx.const(pattern, WORD)

    def shifted(value: tvm.ir.Expr, by: int) -> tvm.ir.Expr:
        return value >> tirx.const(by, WORD)

    pairs = word - (shifted(word, 1) & mask(0x55555555))
    nibbles = (pairs & mask(0x33333333)) + (shifted(pairs, 2) & mask(0x33333333))
    return (nibbles + shifted(nibbles, 4)) & mask(0x0F0F0F0F)


def run_of(kernel_rows: int, kernel_columns: int, words: int) -> tuple[int, int, int]:
    """Kernel rows, kernel columns and words of one run: as many as a byte can count."""
    run = max(d for d in range(1, MAX_RUN + 1) if words % d == 0)
    columns = kernel_columns if run == words and kernel_columns * words <= MAX_RUN else 1
    whole = columns == kernel_columns and kernel_rows * columns * run <= MAX_RUN
    return (kernel_rows if whole and run == words else 1), columns, run


def count_by_bytes(
    bits: Bits, shape: tuple[tvm.ir.Expr, ...], taps: tuple[int, int, int], attrs: dict[str, str]
) -> te.Tensor:
    """Sum the popcounts of ``bits(at, y, x, c)`` over ``taps``: int32 of ``shape``.

    Parameters
    ----------
    taps : (kernel rows, kernel columns, words)
        More than one step of one run.
    """
    run = run_of(*taps)
    axes = steps(ry=run[0], rx=run[1], rc=run[2])

    def of_run(*at: tirx.Var) -> tvm.ir.Expr:
        *lead, y, x, c, o = at
        place = [outer * n + axis for outer, n, axis in zip((y, x, c), run, axes, strict=True)]
        differing = bits((*lead, o), *place)
        return te.sum(
            byte_popcount(differing), axis=[axis for axis in axes if isinstance(axis, tirx.IterVar)]
        )

    runs = [tirx.IntImm("int64", extent // n) for extent, n in zip(taps, run, strict=True)]
    bytes_ = te.compute((*shape[:-1], *runs, shape[-1]), of_run, name="bytes", attrs=stage("bytes"))
    ry, ro, rr = reduce_axes(ry=runs[0], ro=runs[1], rr=runs[2])

    def total(*at: tirx.Var) -> tvm.ir.Expr:
        *lead, o = at
        sums = bytes_[(*lead, ry, ro, rr, o)]
        low = tirx.const(0x00FF00FF, WORD)
        halves = (sums & low) + ((sums >> tirx.const(8, WORD)) & low)
        both = (halves & tirx.const(0xFFFF, WORD)) + (halves >> tirx.const(16, WORD))
        return te.sum(both.astype("int32"), axis=[ry, ro, rr])

    return te.compute(shape, total, name="bitserial_conv2d", attrs=attrs)
