"""Matrix products as a GPU computes them: the tensor expression behind its convolutions and linear layers.

The left side is never stored: an element of it is wherever ``left`` says it is, which for a convolution is a pixel
under a tap of the kernel (implicit GEMM; Chetlur et al., cuDNN, arXiv:1410.0759, section 3.2). Terms come in steps
of ``tile_k``, so that whatever depends on the step alone costs nothing inside one.
"""

import math
from collections.abc import Callable, Sequence

import tvm
from tvm import te, tirx

from .product_steps import Steps
from .schedules.cuda.gemm_knobs import GemmKnobs
from .window import extents, reduce_axes, stage

Element = Callable[..., tvm.ir.Expr]
"""(*lead, step, term of the step, row or column) → value."""


def matrix_product(
    left: Element,
    right: Element,
    rows: int | tvm.ir.Expr,
    columns: int,
    steps: Steps,
    knobs: GemmKnobs,
    attrs: dict[str, str],
    lead: Sequence[int | tvm.ir.Expr] = (),
) -> te.Tensor:
    """Sums over whole tiles; elements beyond the matrices must be 0 or go to waste.

    Parameters
    ----------
    left, right : callable
        Elements of the matrices, float32.
    rows, columns : int or Expr
        Rounded up to whole tiles.
    attrs : dict
        Annotations of the anchor block.
    lead : sequence
        Sizes in front: so many products.

    Returns
    -------
    Tensor, (*lead, rows, columns), behind a first axis of partial sums where ``knobs.slices`` is not 1
    """
    every = (*lead, steps.count, knobs.tile_k)
    padded = [-(-size // tile) * tile for size, tile in ((rows, knobs.tile_m), (columns, knobs.tile_o))]
    a = te.compute(extents(*every, padded[0]), left, name="left", attrs=stage("left"))
    b = te.compute(extents(*every, padded[1]), right, name="right", attrs=stage("right"))
    per_slice = steps.count // knobs.slices
    step, term = reduce_axes(step=per_slice, term=knobs.tile_k)

    def product(first: tvm.ir.Expr, *at: tirx.Var) -> tvm.ir.Expr:
        *outer, m, o = at
        u = first * per_slice + step
        return te.sum(a[(*outer, u, term, m)] * b[(*outer, u, term, o)], axis=[step, term])

    name = attrs["fastconv.op"]
    if knobs.slices == 1:
        return te.compute(extents(*lead, *padded), lambda *at: product(0, *at), name=name, attrs=attrs)
    return te.compute(extents(knobs.slices, *lead, *padded), product, name=name, attrs=attrs)


def product_result(
    sums: te.Tensor, slices: int, shape: Sequence[int | tvm.ir.Expr], lead: int = 0
) -> te.Tensor:
    """The sums, of all slices, in ``shape``: ``lead`` axes, any number of axes that are rows, and columns."""

    def row(at: Sequence[tirx.Var]) -> tvm.ir.Expr:
        index = at[lead]
        for var, size in zip(at[lead + 1 : -1], shape[lead + 1 : -1], strict=True):
            index = index * size + var
        return index

    if slices == 1:
        return te.compute(extents(*shape), lambda *at: sums[(*at[:lead], row(at), at[-1])], name="crop")
    (part,) = reduce_axes(part=slices)
    return te.compute(
        extents(*shape),
        lambda *at: te.sum(sums[(part, *at[:lead], row(at), at[-1])], axis=[part]),
        name="total",
        attrs=stage("total"),
    )


def rows_of(shape: Sequence[int | tvm.ir.Expr]) -> int | tvm.ir.Expr:
    """The product of sizes of which the first may be symbolic."""
    return math.prod(shape[1:], start=shape[0])


def unravel(index: tvm.ir.Expr, shape: Sequence[int | tvm.ir.Expr]) -> list[tvm.ir.Expr]:
    """Positions along ``shape`` of what is ``index``-th in it."""
    places: list[tvm.ir.Expr] = []
    for size in reversed(shape[1:]):
        places.insert(0, index % size)
        index = index // size
    return [index, *places]
