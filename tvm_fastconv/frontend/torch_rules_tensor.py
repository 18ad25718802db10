"""Rules for reductions, indexing and dtype conversions."""

import functools
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import fx
from tvm import relax

from .torch_rules import (
    Emit,
    arguments,
    as_dtype,
    constant_like,
    dtype_of,
    node_shape,
    promoted,
    rule,
    shape,
    wants_positions,
)


def _extreme(
    reduce: Callable, x: relax.Expr, axes: list[int] | int | None, keep: bool, emit: Emit
) -> relax.Var:
    """Reduce by ``max`` or ``min``; masks as bytes, since TVM knows no least and no largest mask."""
    if x.ty.dtype != "bool":
        return emit(reduce(x, axes, keep))
    return emit(relax.op.astype(reduce(relax.op.astype(x, "int8"), axes, keep), "bool"))


def _register_extreme(name: str, reduce: Callable) -> None:
    def listed(op: SimpleNamespace, emit: Emit) -> relax.Var:
        return _extreme(reduce, op.input, list(op.dim) or None, op.keepdim, emit)

    def whole(op: SimpleNamespace, emit: Emit) -> relax.Var:
        return _extreme(reduce, op.input, None, False, emit)

    def values(op: SimpleNamespace, emit: Emit) -> tuple[relax.Var]:
        return (_extreme(reduce, op.input, op.dim, op.keepdim, emit),)  # (values, positions)

    rule(f"a{name}.default")(listed)
    rule(f"{name}.default")(whole)
    rule(f"{name}.dim", refuse=wants_positions)(values)


_register_extreme("max", relax.op.max)
_register_extreme("min", relax.op.min)


def _any(op: SimpleNamespace, emit: Emit, axes: list[int] | int | None) -> relax.Expr:
    """Import whether any value is not 0: a mask, but bytes of bytes."""
    zero = constant_like(0, op.input)
    mask = op.input if op.input.ty.dtype == "bool" else emit(relax.op.not_equal(op.input, zero))
    found = _extreme(relax.op.max, mask, axes, getattr(op, "keepdim", False), emit)
    return as_dtype(found, torch.uint8 if op.input.ty.dtype == "uint8" else torch.bool, emit)


rule("any.default")(lambda op, emit: _any(op, emit, None))
rule("any.dim", "any.dims")(lambda op, emit: _any(op, emit, op.dim))


@rule("cat.default")
def cat(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a concatenation, in the dtype that holds all its parts; PyTorch ignores parts of shape (0,)."""
    parts = [part for part in op.tensors if shape(part) != [0]]
    dtype = functools.reduce(torch.promote_types, map(dtype_of, op.tensors))
    return emit(relax.op.concat([as_dtype(part, dtype, emit) for part in parts], op.dim))


@rule("prod.default", "prod.dim_int")
def product(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a product of all values or along an axis; of integers and masks it is int64."""
    whole = not dtype_of(op.input).is_floating_point
    x = as_dtype(op.input, op.dtype or (torch.int64 if whole else dtype_of(op.input)), emit)
    return emit(relax.op.prod(x, getattr(op, "dim", None), getattr(op, "keepdim", False)))


@rule("linalg_vector_norm.default")
def vector_norm(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a p-norm."""
    x, axes = op.input, list(op.dim) if op.dim is not None else None
    if op.ord in (float("inf"), float("-inf")):
        reduce = relax.op.max if op.ord > 0 else relax.op.min
        return emit(reduce(relax.op.abs(x), axes, op.keepdim))
    if op.ord == 2:
        return emit(relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), axes, op.keepdim)))
    if op.ord == 0:
        counted = as_dtype(emit(relax.op.not_equal(x, constant_like(0, x))), dtype_of(x), emit)
        return emit(relax.op.sum(counted, axes, op.keepdim))
    powers = relax.op.power(relax.op.abs(x), constant_like(op.ord, x))
    return emit(relax.op.power(relax.op.sum(powers, axes, op.keepdim), constant_like(1 / op.ord, x)))


@rule("select.int")
def select(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``x[..., index, ...]``, also counted from the end."""
    axis = op.dim % len(shape(op.input))
    end = shape(op.input)[axis] if op.index == -1 else op.index + 1
    piece = emit(relax.op.strided_slice(op.input, [axis], [op.index], [end]))
    return emit(relax.op.squeeze(piece, [axis]))


# "clip" costs nothing on indices that are in range and reads nothing outside the tensor on others.
rule("embedding.default")(lambda op, emit: emit(relax.op.take(op.weight, op.indices, 0, "clip")))
rule("index_select.default")(lambda op, emit: emit(relax.op.take(op.input, op.index, op.dim, "clip")))


def _refuse_index(node: fx.Node) -> str | None:
    places = [axis for axis, index in enumerate(node.args[1]) if index is not None]
    dtypes = {node.args[1][axis].meta["val"].dtype for axis in places}
    sizes = node_shape(node.args[0])[places[0] : places[-1] + 1]
    if dtypes & {torch.bool, torch.uint8}:
        return "a mask as index makes a result whose size depends on its values"
    if len(places) != len(sizes):
        return "indices with a ':' between them are not supported"
    return (
        None
        if all(isinstance(size, int) for size in sizes)
        else "indexing a dynamic dimension is not supported"
    )


@rule("index.Tensor", refuse=_refuse_index)
def index(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``x[:, i, j]`` as one ``take`` over the indexed axes, merged into one."""
    places = [axis for axis, index in enumerate(op.indices) if index is not None]
    first, sizes = places[0], shape(op.input)
    flat = None
    for axis in places:
        given = op.indices[axis]
        from_end = relax.op.add(given, constant_like(sizes[axis], given))
        counted = relax.op.where(relax.op.less(given, constant_like(0, given)), from_end, given)
        if flat is not None:
            counted = relax.op.add(relax.op.multiply(flat, constant_like(sizes[axis], given)), counted)
        flat = emit(counted)
    merged = [*sizes[:first], -1, *sizes[places[-1] + 1 :]]
    data = emit(relax.op.reshape(op.input, merged)) if len(places) > 1 else op.input
    return emit(relax.op.take(data, flat, first, "clip"))


@rule("where.self")
def where(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a selection; two dtypes are promoted as PyTorch does."""
    return emit(relax.op.where(op.condition, *promoted(op.input, op.other, emit)))


def _refuse_layouts(node: fx.Node) -> str | None:
    values = arguments(node)
    return None if values.get("layout") in (None, torch.strided) else "sparse tensors are not supported"


@rule("_to_copy.default", refuse=_refuse_layouts)
def to_copy(op: SimpleNamespace, emit: Emit) -> relax.Expr:
    """Import a dtype conversion; one to the same dtype is nothing."""
    dtype = str(op.dtype or op.input.ty.dtype).removeprefix("torch.")
    return op.input if str(op.input.ty.dtype) == dtype else emit(relax.op.astype(op.input, dtype))
