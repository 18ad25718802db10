"""What whole models take, and their layers in them, by turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.compiled_model import CompiledModel


@dataclass(frozen=True)
class ModelTimes:
    """Seconds of one model.

    Attributes
    ----------
    whole : list of float
        By turns.
    layers : dict
        Name of a layer → seconds by turns.
    """

    whole: list[float]
    layers: dict[str, list[float]]

    def sum_of(self, names: Sequence[str]) -> list[float]:
        """Seconds of several layers together, by turns."""
        return [sum(turn) for turn in zip(*(self.layers[name] for name in names), strict=True)]


def time_models(models: Sequence[CompiledModel], inputs: Sequence[Any], turns: int) -> list[ModelTimes]:
    """Time models in turns: whole, and then call by call."""
    whole = interleave({str(i): model.prepared_call(*inputs) for i, model in enumerate(models)}, turns)
    timers = [model.call_timer(*inputs) for model in models]
    layers: list[dict[str, list[float]]] = [{} for _ in models]
    for turn in range(turns + 1):
        for timer, found in zip(timers, layers, strict=True):
            sums: dict[str, float] = defaultdict(float)
            for call, (_, seconds) in zip(timer.calls, timer(), strict=True):
                if call.layer is not None:
                    sums[call.layer] += seconds
            if turn:  # the first warms up
                for name, seconds in sums.items():
                    found.setdefault(name, []).append(seconds)
    return [ModelTimes(list(whole[str(i)].samples), found) for i, found in enumerate(layers)]
