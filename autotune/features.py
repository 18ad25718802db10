"""What the cost model is told of a candidate: numbers, on a logarithmic scale where they are sizes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from .candidate import Candidate, Device

Features = dict[str, float]


def features(candidate: Candidate, device: Device) -> Features:
    """Sizes of the problem, knobs, our own estimate, and what follows from them on ``device``."""
    problem, knobs, machine = candidate.task.problem, candidate.knobs, device.machine
    found = {f"problem.{name}": _log(value) for name, value in numbers(json.loads(problem.key))}
    found |= {f"knobs.{name}": _log(value) for name, value in numbers(json.loads(knobs.to_json()))}
    found |= {
        "estimate": _log(knobs.cycles(problem, machine)),
        "threads": device.threads,
        "lanes": machine.lanes,
        "registers": machine.registers,
        "l2": _log(machine.l2_bytes),
    }
    loops = _tile_loops(problem)
    if device.on_gpu:
        return found  # what follows is of a CPU's caches and threads
    if loops is not None and hasattr(knobs, "tile_h"):
        found |= _of_tile(knobs, loops, device)
    elif hasattr(problem, "window_loops") and hasattr(knobs, "rows"):
        found |= _of_window(knobs, problem.window_loops, device)
    elif hasattr(problem, "lookup_loops"):
        found |= _of_lookup(knobs, problem.lookup_loops, device)
    return found


def _tile_loops(problem: Any) -> Any:
    winograd = getattr(problem, "winograd_loops", None)
    return getattr(problem, "loops", None) if winograd is None else winograd.tile


def _of_tile(knobs: Any, loops: Any, device: Device) -> Features:
    """Of the register tile: registers, waste, traffic and the division of the work."""
    machine = device.machine
    rows, columns = knobs.round_up(loops.height, loops.width)
    panels = -(-loops.out_channels // knobs.panel)
    strips = loops.batch * loops.groups * -(-loops.height // (knobs.tile_h * knobs.strip))
    pixels, vectors = knobs.tile_h * knobs.tile_w * loops.pixel_sums, knobs.vectors * loops.vector_sums
    strip_bytes = loops.strip_row_bytes * knobs.tile_h * knobs.strip
    return {
        "sums": pixels * vectors / machine.registers,
        "loads per product": (pixels + vectors) / (pixels * vectors),
        "row waste": rows / loops.height,
        "column waste": columns / loops.width,
        "channel waste": panels * knobs.panel / loops.out_channels,
        "strip in l1": _log(strip_bytes / machine.l1_bytes),
        "strip in l2": _log(strip_bytes / machine.l2_bytes),
        "panel in l1": _log(4 * knobs.panel * loops.reduction / machine.l1_bytes),
        "weights in l2": _log(loops.weight_bytes / machine.l2_bytes),
        "weights read": _log(loops.weight_bytes * strips),
        "reduction": _log(loops.reduction),
        **_of_tasks(strips * knobs.chunks, device),
    }


def _of_window(knobs: Any, loops: Any, device: Device) -> Features:
    """Of a window: waste, and the division of the work."""
    rows, columns = knobs.round_up(loops.height, loops.width)
    return {
        "row waste": rows / loops.height,
        "column waste": columns / loops.width,
        "taps": loops.taps,
        "outputs in registers": knobs.tile_w / device.machine.registers,
        "row bytes": _log(4 * loops.width * loops.channels / device.machine.l1_bytes),
        **_of_tasks(loops.batch * -(-loops.height // knobs.rows), device),
    }


def _of_lookup(knobs: Any, loops: Any, device: Device) -> Features:
    """Of sparse lists: waste, what stays in the caches, visits of a filter, and the division of the work."""
    machine = device.machine
    strips, columns = knobs.tiles_of(loops.height, loops.width)
    blocks = -(-loops.channels // knobs.block)
    return {
        "sums": knobs.rows * knobs.vectors / machine.registers,
        "row waste": strips * knobs.rows * knobs.strip / loops.height,
        "column waste": columns * knobs.width / loops.width,
        "block in l1": _log(knobs.block * loops.slab_bytes(knobs.rows) / machine.l1_bytes),
        "strip in l2": _log(loops.channels * loops.slab_bytes(knobs.rows * knobs.strip) / machine.l2_bytes),
        "coefficients of a visit": _log(loops.nonzeros / (loops.out_channels * blocks)),
        **_of_tasks(loops.batch * strips * knobs.chunks, device),
    }


def _of_tasks(tasks: int, device: Device) -> Features:
    """How evenly parallel tasks divide among the threads."""
    return {"tasks": _log(tasks), "imbalance": -(-tasks // device.threads) * device.threads / tasks}


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in JSON, and where it stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers(item, f"{name}[{place}]")
    elif isinstance(value, bool | int | float):
        yield name, value


def _log(value: float) -> float:
    return math.copysign(math.log2(1 + abs(value)), value)
