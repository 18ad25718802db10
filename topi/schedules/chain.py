"""Schedule of several operators in one function: each is computed strip by strip, just before the next one reads it.

The last operator keeps its own template, whose outermost loop runs over strips of output rows. Each of the others is
moved under that loop, where it computes the rows that its reader needs, those above and below a strip included, and is
laid out there by its own template. What lies between two operators never leaves the cache.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from .conv2d import place_tile, schedule_tile
from .loops import anchors_of, inline_elementwise, is_reduction
from .tile import TileKnobs
from .window import WindowKnobs, place_stencils, place_window, schedule_window


def schedule_chain(sch: Schedule) -> None:
    """Schedule a function of several anchors, each of which reads the result of the one before it."""
    results = [_result(sch, anchor) for anchor in anchors_of(sch)]
    inline_elementwise(sch, kept=[*results, *(sch.get(anchor).name_hint for anchor in anchors_of(sch))])
    *chain, (anchor, result) = zip(anchors_of(sch), map(sch.get_sblock, results), strict=True)
    stages = _stages(sch, anchor)
    if _op(sch, anchor) == "depthwise_conv2d":
        outermost = schedule_window(sch, anchor, result, stages["window"], _window(sch, anchor))
    else:
        outermost = schedule_tile(sch, anchor, result, stages, _tile(sch, anchor))
    for anchor, result in reversed(chain):
        stages = _stages(sch, anchor)
        sch.compute_at(result, outermost, preserve_unit_loops=True)
        if _op(sch, anchor) == "depthwise_conv2d":
            place_window(sch, anchor, result, stages["window"], _window(sch, anchor))
        elif _op(sch, anchor) == "fixed_stencils":
            place_stencils(sch, anchor, stages["window"], _window(sch, anchor))
        else:
            place_tile(sch, anchor, result, outermost, stages, _tile(sch, anchor))


def _op(sch: Schedule, anchor: SBlockRV) -> str:
    return str(sch.get(anchor).annotations["fastconv.op"])


def _result(sch: Schedule, block: SBlockRV) -> str:
    """Name of the last block behind ``block`` that is computed element by element."""
    behind = [reader for reader in sch.get_consumers(block) if _is_epilogue(sch, reader)]
    return _result(sch, behind[-1]) if behind else sch.get(block).name_hint


def _is_epilogue(sch: Schedule, block: SBlockRV) -> bool:
    return not is_reduction(sch, block) and "fastconv.stage" not in sch.get(block).annotations


def _stages(sch: Schedule, anchor: SBlockRV) -> dict[str, SBlockRV]:
    """The stages in front of ``anchor`` alone."""
    found = {sch.get(block).annotations.get("fastconv.stage"): block for block in sch.get_producers(anchor)}
    return {str(name): block for name, block in found.items() if name is not None}


def _tile(sch: Schedule, anchor: SBlockRV) -> TileKnobs:
    return TileKnobs.from_json(sch.get(anchor).annotations["fastconv.knobs"])


def _window(sch: Schedule, anchor: SBlockRV) -> WindowKnobs:
    return WindowKnobs.from_json(sch.get(anchor).annotations["fastconv.knobs"])
