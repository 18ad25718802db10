"""Problems in a few words, for people who read tables."""

import json
from typing import Any

from .candidate import Task


def describe(task: Task) -> str:
    """Such as ``56x56, 64 to 128, 3x3 / 2``; the stages of a chain with plus signs between."""
    stages = getattr(task.problem, "stages", None) or (task.problem,)
    return " + ".join(map(_describe, stages))


def _describe(problem: Any) -> str:
    layer = getattr(problem, "layer", None)
    conv = _first(problem, "conv", "window") or getattr(layer, "conv", None)
    batch = f"{problem.batch} of " if problem.batch > 1 else ""
    if conv is None:
        fields = json.loads(problem.key).items()
        return batch + ", ".join(f"{name} {value}" for name, value in fields if name != "batch" and value)
    channels = _first(problem, "channels") or getattr(layer, "channels", None)
    plane = f"{_first(problem, 'in_height', 'height')}x{_first(problem, 'in_width', 'width')}"
    sizes = f"{channels} to {conv.out_channels}" if channels else f"{conv.out_channels}"
    words = [f"{batch}{plane}", sizes, f"{conv.kernel[0]}x{conv.kernel[1]}"]
    if conv.stride != (1, 1):
        words[-1] += f" / {conv.stride[0]}" if conv.stride[0] == conv.stride[1] else f" / {conv.stride}"
    if conv.groups > 1:
        words.append(f"{conv.groups} groups")
    return ", ".join(words)


def _first(problem: Any, *names: str) -> Any:
    """The first of the attributes that a problem has."""
    return next((getattr(problem, name) for name in names if hasattr(problem, name)), None)
