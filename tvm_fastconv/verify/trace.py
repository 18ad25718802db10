"""What a compiled model computes on its way: the result of every function that it calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.runtime.gpu import to_cpu

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Trace:
    """One run.

    Attributes
    ----------
    results : dict
        Place in the recorded calls to the array that was computed. Calls that lowering made views of are missing.
    outputs : tuple of ndarray
        Of the functions, one by one.
    entry : tuple of ndarray
        What the entry function returns, which calls them in a row.
    """

    results: dict[int, np.ndarray]
    outputs: Arrays
    entry: Arrays


def trace(compiled: CompiledModel, inputs: Arrays, calls: Sequence[RecordedCall]) -> Trace:
    """Run ``compiled``, which was made with these ``calls``, and keep what each of them writes."""
    functions = {call.function for call in calls}
    made: list[tuple[str, np.ndarray]] = []

    def record(_function: Any, name: str, before: bool, _result: Any, *args: Any) -> None:
        if not before and name in functions:
            made.append((name, np.from_dlpack(to_cpu(args[-1])).copy()))

    outputs = compiled.run_instrumented(record, *inputs)
    entry = compiled(*inputs)
    return Trace(by_place(made, calls), outputs, entry if isinstance(entry, tuple) else (entry,))


def by_place(made: Sequence[tuple[str, np.ndarray]], calls: Sequence[RecordedCall]) -> dict[int, np.ndarray]:
    """What functions computed, in order, by their places in ``calls``, of which some were not made."""
    remaining = iter(enumerate(calls))
    return {next(place for place, call in remaining if call.function == name): array for name, array in made}
