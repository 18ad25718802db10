"""Layer names for the nodes of an imported graph, and the builder hook that puts them on every Relax call.

A layer is one call of a module: the second call of ``relu`` is ``relu#2``. Where a module calls several
convolutions or matrix products itself (``F.conv2d`` twice in one ``forward``), each of them is a layer of its own,
numbered on; whatever surrounds it (padding, bias, activation) shares its number.
"""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.relax.op.op_attrs import TakeAttrs

from tvm_fastconv.relay_passes.graph.layer_names import with_layer_name

_LISTED = 3
"""Layers that are named of all with one and the same unsupported operator."""


@dataclass(frozen=True)
class Site:
    """Where a node stands: ``path`` is its module's path, ``call`` identifies that module's call."""

    path: str
    call: Hashable
    heavy: bool  # a convolution or matrix product


def number_layers(sites: Iterable[Site]) -> list[str]:
    """Return the layer name of each site, in order: ``path``, then ``path#2``, ``path#3`` for later layers of it."""
    heavy_seen: dict[Hashable, int] = {}
    layers: dict[tuple[str, Hashable, int], str] = {}
    used: dict[str, int] = {}
    names = []
    for site in sites:
        if site.heavy:
            heavy_seen[site.call] = heavy_seen.get(site.call, 0) + 1
        layer = (site.path, site.call, max(heavy_seen.get(site.call, 0), 1))
        if layer not in layers:
            used[site.path] = used.get(site.path, 0) + 1
            layers[layer] = site.path if used[site.path] == 1 else f"{site.path}#{used[site.path]}"
        names.append(layers[layer])
    return names


def unsupported_lines(found: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return one line per operator and reason, with its first layers, for every (operator, layer, reason)."""
    layers: dict[tuple[str, str], list[str]] = {}
    for operator, layer, reason in found:
        layers.setdefault((operator, reason), []).append(f"'{layer}'")
    return [
        f"{operator} in {_enumerated(list(dict.fromkeys(names)))}{reason and f': {reason}'}"
        for (operator, reason), names in layers.items()
    ]


def _enumerated(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"layer{'s' if len(names) > 1 else ''} {', '.join(names[:_LISTED])}{more}"


class LayerLabeller:
    """Emits every call, nested ones included, under the layer name that is current.

    Nested calls are bound one by one, innermost first: the block builder's own flattening drops the outer span.
    """

    def __init__(self, builder: relax.BlockBuilder) -> None:
        self._emit = builder.emit
        self._normalize = builder.normalize
        self.layer = ""

    def emit(self, expr: relax.Expr | tuple | list, name_hint: str = "") -> relax.Var:
        """Bind ``expr`` like ``BlockBuilder.emit``, labelled."""
        if isinstance(expr, tuple | list):
            expr = relax.Tuple(list(expr))
        return self._emit(self._labelled(expr), name_hint)

    def normalize(self, expr: relax.Expr) -> relax.Expr:
        """Normalise ``expr`` like ``BlockBuilder.normalize``, labelled; only what is nested in it is bound."""
        return self._normalize(self._labelled(expr))

    def bound(self, expr: relax.Expr) -> relax.Expr:
        """Return ``expr`` with every call in it bound to a variable."""
        if isinstance(expr, relax.Call) and not tvm.ir.is_prim_expr(expr):
            return self._emit(self._labelled(expr))
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.bound(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.bound(expr.tuple_value), expr.index)
        return expr

    def _labelled(self, expr: relax.Expr) -> relax.Expr:
        if not isinstance(expr, relax.Call) or tvm.ir.is_prim_expr(expr):
            return self.bound(expr)
        arguments = [self.bound(argument) for argument in expr.args]
        call = relax.Call(expr.op, arguments, expr.attrs, expr.ty_args)
        return with_layer_name(_inside(call), self.layer)


def _inside(call: relax.Call) -> relax.Call:
    """Return a call that reads nothing outside its tensors: converters ask for a ``take`` that trusts its indices."""
    if not isinstance(call.attrs, TakeAttrs) or call.attrs.mode != "fast":
        return call
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    return relax.op.take(*call.args, axis, "clip")


@contextmanager
def labelling(builder: relax.BlockBuilder) -> Iterator[LayerLabeller]:
    """Route ``builder.emit`` and ``builder.normalize`` through a labeller for the duration of the block."""
    labeller = LayerLabeller(builder)
    builder.emit = labeller.emit
    builder.normalize = labeller.normalize
    try:
        yield labeller
    finally:
        del builder.emit, builder.normalize
