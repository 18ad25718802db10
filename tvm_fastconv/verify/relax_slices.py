"""The values of a Relax graph, each computed from any values in front of it by code that is not ours.

For what PyTorch cannot compute: ONNX files, and graphs in which layers were approximated on request.
"""

from collections.abc import Callable, Iterable

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.graph.source_values import source_values
from tvm_fastconv.relay_passes.graph.thresholds import DECISIONS
from tvm_fastconv.relay_passes.module.perturb_roundings import PerturbRoundings
from tvm_fastconv.targets import triple_of
from tvm_fastconv.verify.plain_run import plain_run

from .source import FACTOR_SPREAD, SPREAD, UNIT, Known, Roundings, computed_by

Slice = Callable[..., tuple[np.ndarray, ...]]


class RelaxSlices:
    """A Relax module as a `Source`.

    Parameters
    ----------
    mod : IRModule
        Standard operators, its values named by `name_values`.
    target : Target
        This machine's.
    what : str
        What ``mod`` is, for messages.
    plus_at_zero : set of str
        The signs that are +1 for 0 in it.
    channel_axes : tuple of int
        See `Source`.
    """

    def __init__(
        self,
        mod: tvm.IRModule,
        target: tvm.target.Target,
        what: str,
        plus_at_zero: frozenset[str] = frozenset(),
        channel_axes: tuple[int, ...] = (1,),
    ) -> None:
        self.by = computed_by(what, plus_at_zero)
        self.channel_axes = channel_axes
        main, self._mod, self._triple = mod["main"], mod, triple_of(target)
        self._names = {var: value.name for var, value in source_values(mod).items()}
        self._variables = {name: var for var, name in self._names.items()}
        self._bindings = [binding for block in main.body.blocks for binding in block.bindings]
        self.inputs = tuple(self._names[param] for param in main.params)
        self.outputs = tuple(self._names[var] for var in results_of(main))
        self._compiled: dict[tuple, tuple[Slice, list[tuple[int, ...]]]] = {}

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Source`."""
        return plain_run(self._mod, self._triple)(*inputs)

    def evaluate(self, name: str, known: Known, roundings: Roundings | None = None) -> np.ndarray:
        """See `Source`."""
        bindings, stops = self._slice(name, known)
        if not bindings:
            return known[name]
        key = (name, tuple(stops), roundings and (roundings.layers, roundings.factors))
        if key not in self._compiled:
            self._compiled[key] = self._compile(name, bindings, stops, roundings)
        run, shapes = self._compiled[key]
        off = [roundings.signs(shape) for shape in shapes] if roundings else []
        return run(*(known[stop] for stop in stops), *off)[0]

    def decides(self, name: str, known: Known) -> bool:
        """See `Source`."""
        return any(op_name(binding.value) in DECISIONS for binding in self._slice(name, known)[0])

    def _slice(self, name: str, known: Known) -> tuple[list[relax.Binding], list[str]]:
        """What must be computed for ``name``, in order, and the known values it is computed from."""
        needed, stops = {self._variables[name]}, []
        bindings = []
        for binding in reversed(self._bindings):
            if binding.var not in needed:
                continue
            value_name = self._names.get(binding.var)
            if value_name is not None and value_name in known and value_name != name:
                stops.append(value_name)
                continue
            bindings.append(binding)
            needed |= _variables(binding.value)
        stops += [param for param in self.inputs if self._variables[param] in needed]
        return bindings[::-1], stops

    def _compile(
        self, name: str, bindings: Iterable[relax.Binding], stops: list[str], roundings: Roundings | None
    ) -> tuple[Slice, list[tuple[int, ...]]]:
        builder = relax.BlockBuilder()
        with builder.function("main", [self._variables[stop] for stop in stops]):
            with builder.dataflow():
                for binding in bindings:
                    builder.emit_normalized(binding)
                result = builder.emit_output(self._variables[name])
            builder.emit_func_output(result)
        mod = builder.get()
        if roundings is not None:
            factors = FACTOR_SPREAD * roundings.factors
            mod = tvm.transform.Sequential([PerturbRoundings(UNIT, SPREAD, roundings.layers, factors)])(mod)
        off = mod["main"].params[len(stops) :]
        return plain_run(mod, self._triple), [tuple(int(n) for n in param.ty.shape) for param in off]


def results_of(main: relax.Function) -> list[relax.Var]:
    """The variables that ``main`` returns."""
    values = {binding.var: binding.value for block in main.body.blocks for binding in block.bindings}
    result = main.body.body
    while isinstance(result, relax.Var) and isinstance(values.get(result), relax.Var | relax.Tuple):
        result = values[result]
    return list(result.fields) if isinstance(result, relax.Tuple) else [result]


def _variables(value: relax.Expr) -> set[relax.Var]:
    found: set[relax.Var] = set()
    relax.analysis.post_order_visit(
        value, lambda expr: found.add(expr) if isinstance(expr, relax.Var) else None
    )
    return found
