"""Is the compiled file right? Every function it calls is compared with the source model, from equal inputs.

The file is run once with all intermediate results kept. Passes have noted which value of the source each of them stands
for (``relay_passes.graph.source_values``); from there, the source computes the next one, and the two must agree. So an
error cannot hide in a network whose outputs jump for every rounding, a rounding cannot look like an error, and what is
wrong is named. Results without a counterpart are compared together with the next that has one; the outputs have one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import tvm

from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.errors import FastconvError
from tvm_fastconv.gpu_targets import arches_of, is_cuda
from tvm_fastconv.notices import notify
from tvm_fastconv.relay_passes.graph.source_values import SourceValue
from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.runtime.cpu import missing_features
from tvm_fastconv.runtime.gpu import gpu_obstacle
from tvm_fastconv.targets import architecture, cpu_features

from .compare import Comparison, compare, tolerance
from .graph_values import values_of_graph
from .source import TF32_UNIT, Source
from .trace import Arrays, Trace

__all__ = ["Source", "Verdict", "obstacle_here", "obstacle_to_verifying", "verify", "verify_graph"]


def obstacle_to_verifying(examples: Arrays | None) -> str:
    """Why nothing can be compared; an empty text where it can."""
    if examples is None:
        notify("the compiled model is not verified: there are no example inputs")
        return "not verified: no example inputs"
    if not all(np.isfinite(x).all() for x in examples):
        notify("the compiled model is not verified: the example inputs hold NaN or infinity")
        return "not verified: the example inputs hold NaN or infinity"
    return ""


def obstacle_here(target: tvm.target.Target) -> str:
    """Why code for ``target`` cannot be run here, though its answers can be computed; an empty text where it can."""
    if is_cuda(target):
        reason = gpu_obstacle(arches_of(target))
        return f"not verified: {reason}" if reason else ""
    if architecture(target) != process_machine():
        return f"not verified: this machine is none of {architecture(target)}"
    missing = missing_features(cpu_features(target))
    return f"not verified: this machine lacks {', '.join(missing)}" if missing else ""


@dataclass
class Verdict:
    """What was compared.

    Attributes
    ----------
    errors : dict
        Layer to the largest error of its function, relative to the largest value of its channel.
    compared, functions : int
        Results that were compared on their own, of how many.
    outputs : tuple of ndarray
        What the entry function returns for the example inputs.
    open : float
        The largest share of a result that differs by more, where rounding decides.
    """

    errors: dict[str, float] = field(default_factory=dict)
    compared: int = 0
    functions: int = 0
    open: float = 0.0
    outputs: Arrays = ()

    def add(self, layers: Sequence[str], found: Comparison) -> None:
        """Count one comparison."""
        self.open = max(self.open, found.open)
        for layer in layers:
            self.errors[layer] = max(self.errors.get(layer, 0.0), found.error)

    def line(self, source: Source, whole: float, where: str = "") -> str:
        """One line for the manifest; ``whole`` is the error of the outputs when the network runs as a whole."""
        largest = max(self.errors.values(), default=0.0)
        text = (
            f"verified{where} against {source.by} from equal inputs: all {self.functions} functions, "
            f"{self.compared} of them alone, the others together with the next; largest error of a function "
            f"{largest:.1e} of its channel's largest value, of the network's outputs {whole:.1e}"
        )
        return text + (
            f"; up to {100 * self.open:.3g} % of a result differ by more, where rounding decides"
            if self.open
            else ""
        )


def verify(
    specs: Sequence[TensorSpec],
    run: Callable[[Arrays], Trace],
    source: Source,
    examples: Arrays,
    calls: Sequence[RecordedCall],
) -> Verdict:
    """Compare all results of a compiled model on the example inputs, and on random ones.

    Parameters
    ----------
    specs
        Its outputs.
    run
        Runs it, and keeps what each of its functions computes.
    calls
        What its entry function calls, in order.

    Raises
    ------
    FastconvError
        A result differs; the message names its layer.
    """
    verdict = Verdict()
    for inputs, which in _both(examples):
        ran = run(inputs)
        verdict.outputs = verdict.outputs or ran.entry
        steps, last = _steps(ran, calls)
        verdict.functions, verdict.compared = len(ran.results), len(steps)
        for part, found in _comparisons(source, inputs, steps, ran.outputs, last):
            verdict.add(part.layers, found)
            if not found.agrees:
                raise FastconvError(_wrong(part, found, source, which))
        _check_entry(specs, ran, which)
    return verdict


def _check_entry(specs: Sequence[TensorSpec], ran: Trace, which: str) -> None:
    """What the functions compute one by one, they must compute in a row, in the memory that was planned for them."""
    for spec, one, other in zip(specs, ran.entry, ran.outputs, strict=True):
        if not np.array_equal(one, other, equal_nan=other.dtype.kind == "f"):
            raise FastconvError(
                f"the compiled model is wrong: on {which}, its entry function computes another {spec.name} than its "
                "functions one by one. This is a bug in tvm-fastconv"
            )


def verify_graph(mod: tvm.IRModule, source: Source, examples: Arrays, target: tvm.target.Target) -> None:
    """Compare the values of a graph, run by code that is not ours, with ``source``, in the same way.

    For the graph that layers are approximated in: what comes of it is compared with the approximated one.

    Parameters
    ----------
    mod : IRModule
        Standard operators, with values of the source noted of its variables.

    Raises
    ------
    FastconvError
        A value differs; the message names its layer.
    """
    noted, run = values_of_graph(mod, target)
    for inputs, which in _both(examples):
        values, outputs = run(*inputs)
        steps = [Step(Part([name]), value, array) for (name, value), array in zip(noted, values, strict=True)]
        for part, found in _comparisons(source, inputs, steps, outputs, Part([])):
            if not found.agrees:
                raise FastconvError(_wrong(part, found, source, which))


def _both(examples: Arrays) -> tuple[tuple[Arrays, str], ...]:
    return (examples, "the example inputs"), (random_inputs(examples), "random inputs")


def random_inputs(examples: Arrays) -> Arrays:
    """Inputs drawn evenly between the smallest and the largest value of each example; normal ones for constants."""
    rng = np.random.default_rng(0)
    return tuple(_random_like(rng, example) for example in examples)


def _random_like(rng: np.random.Generator, example: np.ndarray) -> np.ndarray:
    if example.dtype == bool:
        return rng.random(example.shape) < 0.5
    low, high = example.min(), example.max()
    if example.dtype.kind != "f":
        return rng.integers(low, high, example.shape, dtype=example.dtype, endpoint=True)
    if low == high:
        return rng.standard_normal(example.shape).astype(example.dtype)
    share = rng.random(example.shape)
    return ((1 - share) * low + share * high).astype(example.dtype)  # high - low may be beyond all numbers


@dataclass(frozen=True)
class Part:
    """Functions that are compared together.

    Attributes
    ----------
    layers : list of str
        Their layers; or their operators, where they belong to none.
    factors : float
        What they round factors of products by, see `Roundings`.
    """

    layers: list[str]
    factors: float = 0.0


@dataclass(frozen=True)
class Step:
    """A result: what was computed for it since the last one, what it stands for, and as it is stored."""

    part: Part
    value: SourceValue
    stored: np.ndarray


def _steps(ran: Trace, calls: Sequence[RecordedCall]) -> tuple[list[Step], Part]:
    """The results that stand for a value of the source, and what is computed behind them for the outputs."""
    steps: list[Step] = []
    alone: set[int] = set()
    for place, stored in ran.results.items():
        if (value := calls[place].result) is not None:
            steps.append(Step(_part(calls, place, alone), value, stored))
            alone.add(place)
    return steps, _part(calls, max(ran.results, default=-1), alone)


def _comparisons(
    source: Source, inputs: Arrays, steps: Sequence[Step], outputs: Arrays, last: Part
) -> Iterator[tuple[Part, Comparison]]:
    """(part, comparison) of each step, from the inputs and the steps before it, then of the outputs."""
    known = dict(zip(source.inputs, inputs, strict=True))
    for step in steps:
        name = step.value.name
        want = known[name] if name in known else source.evaluate(name, known)
        got = step.value.decode(step.stored, want.shape)
        if got is None:
            continue
        yield step.part, compare(got, want, source, name, known, step.part.factors)
        known.setdefault(name, np.ascontiguousarray(got.astype(want.dtype)))
    for name, got in zip(source.outputs, outputs, strict=True):
        want = known[name] if name in source.inputs else source.evaluate(name, known)
        if got.shape == want.shape:
            yield last, compare(got, want, source, name, known, last.factors)
        else:
            yield last, Comparison(float("inf"), 0.0, False)


def _part(calls: Sequence[RecordedCall], place: int, alone: set[int]) -> Part:
    """The call at ``place`` and those before it that were not compared alone."""
    found, pending = [], [place] if place >= 0 else []
    while pending:
        call = calls[pending.pop()]
        found.append(call)
        pending += [read for read in call.reads if read not in alone]
    reported = [
        fields["name"] for call in reversed(found) for fields in call.layers[-1:] if "method" in fields
    ]
    operators = [call.layers[-1]["name"] if call.layers else call.function for call in found]
    rounds = any(fields.get("op") == "tf32_conv2d" for call in found for fields in call.layers)
    return Part(list(dict.fromkeys(reported or operators)), TF32_UNIT if rounds else 0.0)


def _wrong(part: Part, found: Comparison, source: Source, which: str) -> str:
    names, allowed = " or ".join(part.layers) or "the outputs", tolerance(part.factors)
    return (
        f"the compiled model is wrong in {names}: off by {found.error:.1e} of the largest value that {source.by} "
        f"computes in that channel from equal inputs (allowed: {allowed:.0e} and float noise), on {which}. "
        "This is a bug in tvm-fastconv; compile with verify=False to look at the result nevertheless"
    )
