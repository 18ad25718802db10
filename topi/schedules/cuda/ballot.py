"""Bits decided by the lanes of a warp, in one word by one instruction."""

import tvm
from tvm import tirx
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import SBlockRV

from ..loops import subexpressions

ALL_LANES = 0xFFFFFFFF


def by_ballot(sch: Schedule, pack: SBlockRV) -> None:
    """Turn a sum of bits (`topi.bitpack.pack_decisions`) into a ballot, before anything is done to its loops.

    Its last axis is then one of lanes: bind it, alone or as the innermost part of another, to ``threadIdx.x``.
    """
    old = sch.get(pack)
    *axes, bit = old.iter_vars
    lane = tirx.IterVar(bit.dom, bit.var, tirx.IterVar.DataPar, bit.thread_tag)
    store = old.body
    decision = next(part for part in subexpressions(store.value) if isinstance(part, tirx.Select)).condition
    word = tirx.Var("word", "uint32")
    vote = tvm.tirx.call_extern(
        "uint32", "__ballot_sync", tirx.const(ALL_LANES, "uint32"), decision.astype("int32")
    )
    stored = tirx.BufferStore(store.buffer, word, store.indices)
    body = tirx.SeqStmt([tirx.Bind(word, vote), tirx.IfThenElse(bit.var.equal(0), stored, None)])
    reads = [region for region in old.reads if not region.source.same_as(store.buffer)]
    new = SBlock(
        [*axes, lane], reads, old.writes, old.name_hint, body, None, old.alloc_buffers, old.match_buffers,
        old.annotations,
    )  # fmt: skip
    sch.state.replace(sch.get_sref(pack), new, {old: new})
