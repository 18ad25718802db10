"""The values of an exported program, each computed by PyTorch from any values in front of it."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from .source import Known, Roundings, computed_by
from .torch_roundings import DECISIONS, packet, rounded

Value = Any
"""What a node computes: a tensor, a tuple of them, or a size."""


class TorchNodes:
    """An exported program as a `Source`; its values are named after their nodes.

    Parameters
    ----------
    program : ExportedProgram
        Decomposed as it was imported.
    plus_at_zero : set of str
        The nodes of ``torch.sign`` that are compiled with +1 for 0.
    """

    def __init__(self, program: ExportedProgram, plus_at_zero: frozenset[str] = frozenset()) -> None:
        self.by = computed_by("PyTorch", plus_at_zero)
        self._nodes = list(program.graph.nodes)
        self._by_name = {node.name: node for node in self._nodes}
        self._plus_at_zero = plus_at_zero
        self._constants = _constants(program)
        self.inputs = tuple(
            spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT
        )
        self.outputs = tuple(node.name for node in pytree.tree_leaves(program.graph.output_node().args))
        self.channel_axes: tuple[int, ...] = (1,)
        self._folded: dict[fx.Node, Value] = {}

    def evaluate(self, name: str, known: Known, roundings: Roundings | None = None) -> np.ndarray:
        """See `Source`."""
        wanted, values = self._by_name[name], self._given(name, known)
        self._fill([wanted], values, roundings)
        return _array(values[wanted])

    def _fill(self, wanted: list[fx.Node], values: dict[fx.Node, Value], roundings: Roundings | None) -> None:
        """Compute the ``wanted`` from ``values``, and add them."""
        with torch.no_grad():
            for node in self._needed(wanted, values):
                if node in self._independent:  # never off: what is compiled holds such values as constants
                    if node not in self._folded:
                        self._folded[node] = self._compute(node, self._folded, None)
                    values[node] = self._folded[node]
                elif node not in values:
                    values[node] = self._compute(node, values, roundings)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Source`."""
        known = dict(zip(self.inputs, inputs, strict=True))
        values = self._given("", known)
        self._fill([self._by_name[name] for name in self.outputs], values, None)
        return tuple(_array(self._value(self._by_name[name], values)) for name in self.outputs)

    def decides(self, name: str, known: Known) -> bool:
        """See `Source`."""
        needed = self._needed([self._by_name[name]], self._given(name, known))
        return any(packet(node.target) in DECISIONS for node in needed if node not in self._independent)

    def _given(self, name: str, known: Known) -> dict[fx.Node, Value]:
        """The nodes that are known, or equal to one that is."""
        given = {}
        for other, array in known.items():
            if other != name and other in self._by_name:
                given[self._twins[self._by_name[other]]] = torch.from_numpy(np.array(array))
        return given

    def _needed(self, wanted: list[fx.Node], given: Iterable[fx.Node]) -> list[fx.Node]:
        """What must be computed for ``wanted``, in order."""
        stops, found, pending = set(given), set(wanted), [*wanted]
        while pending:
            for node in pending.pop().all_input_nodes:
                if node not in found and self._twins[node] not in stops:
                    found.add(node)
                    pending.append(node)
        return [node for node in self._nodes if node in found]

    def _compute(self, node: fx.Node, values: dict[fx.Node, Value], roundings: Roundings | None) -> Value:
        if node.op == "placeholder":
            return self._constants[node.name]
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._value(n, values))
        if node.name in self._plus_at_zero:
            return torch.where(args[0] >= 0, 1.0, -1.0)
        if node.target is torch.ops.aten.view.default:  # the strides of a value that was given are its own
            args = (args[0].contiguous(), *args[1:])
        value = node.target(*args, **kwargs)
        if "empty" in packet(node.target):  # whatever memory held; what is compiled writes zeros
            value = torch.zeros_like(value)
        return value if roundings is None else rounded(node.target, args, kwargs, value, roundings)

    def _value(self, node: fx.Node, values: dict[fx.Node, Value]) -> Value:
        return values[node] if node in values else values[self._twins[node]]

    @cached_property
    def _twins(self) -> dict[fx.Node, fx.Node]:
        """Each node's first equal: duplicates are merged when a program is compiled."""
        first: dict[Any, fx.Node] = {}
        twins: dict[fx.Node, fx.Node] = {}
        for node in self._nodes:
            if node.op == "call_function":
                args = fx.map_arg((node.args, node.kwargs), lambda n: twins[n])
                twins[node] = first.setdefault((node.target, repr(args)), node)
            else:
                twins[node] = node
        return twins

    @cached_property
    def _independent(self) -> set[fx.Node]:
        """The nodes that depend on no input."""
        found: set[fx.Node] = set()
        for node in self._nodes:
            constant = node.op == "placeholder" and node.name in self._constants
            computed = node.op == "call_function" and all(n in found for n in node.all_input_nodes)
            if constant or computed:
                found.add(node)
        return found


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().resolve_conj().resolve_neg().numpy()


def _constants(program: ExportedProgram) -> dict[str, torch.Tensor]:
    tensors = {**program.constants, **program.state_dict}
    return {
        spec.arg.name: tensors[spec.target].detach().cpu()
        for spec in program.graph_signature.input_specs
        if spec.kind is not InputKind.USER_INPUT and isinstance(tensors.get(spec.target), torch.Tensor)
    }
