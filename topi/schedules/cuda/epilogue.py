"""What stands behind an operator that is written as loops is computed where its threads store their sums.

TVM's own primitives would move a block only where they can invert the places that the threads store to. So the
expression behind the operator is put into its last block, the stage ``crop``, by substitution.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import SBlockRV

from ..registry import Site


def join_epilogue(site: Site) -> None:
    """Compute in the stage ``crop`` whatever reads it element by element; what else there is keeps its own loops.

    The stage holds one store, under any conditions, of what the operator is named after.
    """
    sch, crop = site.sch, site.stages["crop"]
    while (readers := sch.get_consumers(crop)) and _join(sch, crop, readers[0]):
        continue


def _join(sch: Schedule, crop: SBlockRV, reader: SBlockRV) -> bool:
    """Put the expression of ``reader``, the only one, into ``crop``; whether that was possible."""
    old, after = sch.get(crop), sch.get(reader)
    passed = old.writes[0].source
    store = after.body
    if len(sch.get_consumers(crop)) > 1 or not isinstance(store, tirx.BufferStore):
        return False
    places = _axes_read(after, passed)
    if places is None:
        return False

    def stored(was: tirx.BufferStore) -> tirx.Stmt:
        if not was.buffer.same_as(passed):
            return was
        at = {axis: was.indices[place] for axis, place in places.items()}

        def expression(part: tvm.ir.Expr) -> tvm.ir.Expr:
            if isinstance(part, tirx.Var):
                return at.get(part, part)
            return was.value if part.source.same_as(passed) else part

        return tvm_ffi.structural_map(store, ((tirx.Var, expression), (TensorLoad, expression)))

    body = tvm_ffi.structural_map(old.body, (tirx.BufferStore, stored))
    others = [_whole(read.source) for read in after.reads if not read.source.same_as(passed)]
    joined = SBlock(
        old.iter_vars,
        [*old.reads, *others],
        [_whole(store.buffer)],
        old.name_hint,
        body,
        annotations=old.annotations,
    )
    _replace(sch, old, joined, after, passed)
    return True


def _axes_read(after: SBlock, passed: tirx.Buffer) -> dict[tirx.Var, int] | None:
    """Axis of a block → axis of the one place of ``passed`` that it reads there; ``None`` where it reads others."""
    found: list[list[tvm.ir.Expr]] = []

    def note(load: TensorLoad) -> TensorLoad:
        if load.source.same_as(passed):
            found.append(list(load.indices))
        return load

    tvm_ffi.structural_map(after.body.value, (TensorLoad, note))
    axes = [axis.var for axis in after.iter_vars]
    same = all(
        len(place) == len(axes) and all(one.same_as(other) for one, other in zip(place, axes, strict=True))
        for place in found
    )
    return {axis: place for place, axis in enumerate(axes)} if found and same else None


def _whole(buffer: tirx.Buffer) -> tvm.ir.TensorRegion:
    return buffer[tuple(slice(0, n) for n in buffer.shape)]


def _replace(sch: Schedule, old: SBlock, joined: SBlock, after: SBlock, passed: tirx.Buffer) -> None:
    """Put ``joined`` into the place of ``old``, and take ``after`` with its loops and ``passed`` away."""
    root = sch.get(sch.get_sblock("root"))
    kept = [part for part in root.body if not _holds(part, after)]
    body = kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)
    body = tvm_ffi.structural_map(body, (SBlock, lambda block: joined if block.same_as(old) else block))
    new = SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        body,
        alloc_buffers=[buffer for buffer in root.alloc_buffers if not buffer.same_as(passed)],
        annotations=root.annotations,
    )
    sch.state.replace(sch.get_sref(sch.get_sblock("root")), new, {root: new, old: joined})


def _holds(part: tirx.Stmt, block: SBlock) -> bool:
    found: list[bool] = []

    def note(other: SBlock) -> SBlock:
        found.append(other.same_as(block))
        return other

    tvm_ffi.structural_map(part, (SBlock, note))
    return any(found)
