"""Sums that start from the bias: it is loaded where they would be zeroed, and nothing is added at their end.

An addition for each vector of outputs is 2 % of MobileNetV2's work, and beside the sums, biases do not fit into the
registers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock


@dataclass(frozen=True)
class _Addition:
    """Block ``adder`` adds ``bias`` to the sums of block ``anchor``, which it reads as ``sums``."""

    anchor: SBlock
    adder: SBlock
    sums: TensorLoad
    bias: TensorLoad


def start_from_bias(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Start the sums of every operator of ours, where they are floats, from what is added to each first of all.

    Parameters
    ----------
    func : PrimFunc
        Not scheduled: a block for each step.
    """
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(func.body, (SBlock, blocks.append))
    for anchor in blocks:
        if "fastconv.op" in anchor.annotations and (addition := _addition_to(anchor, blocks, func)):
            func = tirx.PrimFunc(func.params, _moved(func.body, addition), func.ret_type, func.attrs)
    return func


def _addition_to(anchor: SBlock, blocks: Sequence[SBlock], func: tirx.PrimFunc) -> _Addition | None:
    if not isinstance(anchor.init, tirx.BufferStore) or not _is_zero(anchor.init.value):
        return None
    passed = anchor
    while (reader := _only_reader(passed, blocks)) is not None:
        value, sums = reader.body.value, passed.writes[0].source
        if _is_read(value, sums, reader):
            passed = reader
            continue
        for load, bias in _summands(value):
            if _is_read(load, sums, reader) and _is_aligned(bias, reader, anchor, func):
                return _Addition(anchor, reader, load, bias)
        return None
    return None


def _is_zero(value: tvm.ir.Expr) -> bool:
    return isinstance(value, tirx.FloatImm) and value.value == 0


def _only_reader(block: SBlock, blocks: Sequence[SBlock]) -> SBlock | None:
    """The one block that reads what ``block`` writes, if each of its own values is computed from one place."""
    written = block.writes[0].source
    readers = [
        other for other in blocks
        if not other.same_as(block) and any(region.source.same_as(written) for region in other.reads)
    ]  # fmt: skip
    if len(readers) != 1 or readers[0].init is not None or not isinstance(readers[0].body, tirx.BufferStore):
        return None
    return readers[0] if _are_axes(readers[0].body.indices, readers[0]) else None


def _are_axes(indices: Sequence[tvm.ir.Expr], block: SBlock) -> bool:
    axes = [axis.var for axis in block.iter_vars]
    return len(indices) == len(axes) and all(
        index.same_as(axis) for index, axis in zip(indices, axes, strict=True)
    )


def _is_read(value: tvm.ir.Expr, buffer: tirx.Buffer, reader: SBlock) -> bool:
    return isinstance(value, TensorLoad) and value.source.same_as(buffer) and _are_axes(value.indices, reader)


def _summands(value: tvm.ir.Expr) -> Iterator[tuple[tvm.ir.Expr, tvm.ir.Expr]]:
    if isinstance(value, tirx.Add):
        yield value.a, value.b
        yield value.b, value.a


def _is_aligned(bias: tvm.ir.Expr, adder: SBlock, anchor: SBlock, func: tirx.PrimFunc) -> bool:
    """Whether ``bias`` is an argument that has a value for all sums; ``anchor`` may compute some that nobody reads."""
    if not isinstance(bias, TensorLoad) or not any(bias.source.same_as(param) for param in func.params):
        return False
    alike = [
        mine.var for mine, sums in zip(adder.iter_vars, anchor.iter_vars, strict=False)
        if tvm_ffi.structural_equal(mine.dom.extent, sums.dom.extent)
    ]  # fmt: skip
    return all(
        isinstance(index, tirx.IntImm) or any(index.same_as(axis) for axis in alike) for index in bias.indices
    )


def _moved(body: tirx.Stmt, addition: _Addition) -> tirx.Stmt:
    """Regions that a block reads are, to TVM, those of its sums alone: where these start from is not among them."""
    anchor, adder, init = addition.anchor, addition.adder, addition.anchor.init
    axes = {axis.var: index for axis, index in zip(adder.iter_vars, init.indices, strict=True)}
    places = [axes[index] if isinstance(index, tirx.Var) else index for index in addition.bias.indices]
    first = tirx.BufferStore(init.buffer, tirx.BufferLoad(addition.bias.source, places), init.indices)
    store = tirx.BufferStore(adder.body.buffer, addition.sums, adder.body.indices)
    read = [region for region in adder.reads if region.source.same_as(addition.sums.source)]

    def replaced(block: SBlock) -> SBlock:
        if block.same_as(anchor):
            return _with(block, block.reads, block.body, first)
        if block.same_as(adder):
            return _with(block, read, store, None)
        return block

    return tvm_ffi.structural_map(body, (SBlock, replaced))


def _with(
    block: SBlock, reads: Sequence[tirx.BufferRegion], body: tirx.Stmt, init: tirx.Stmt | None
) -> SBlock:
    return SBlock(block.iter_vars, reads, block.writes, block.name_hint, body, init, block.alloc_buffers,
                  block.match_buffers, block.annotations)  # fmt: skip
