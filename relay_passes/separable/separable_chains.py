"""Chains of convolutions that factorise one, as they are found in the graph; `decompose.chain_patterns` names them.

What somebody else reads too is no inner value, and ends a chain.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_fastconv.decompose.chain_patterns import PATTERNS, Factor, is_linear
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem

from ..graph.conv_call import conv2d_of, conv_problem, extent, plane_of
from ..graph.layer_names import layer_name
from ..graph.rewrite import channel_vector, constant_array, count_uses, op_name
from ..layout.layout_rules import ELEMENTWISE


@dataclass(frozen=True, kw_only=True)
class Stage(Factor):
    """One convolution of a chain, and where it stands in the graph.

    Attributes
    ----------
    var : Var
        What it is bound to.
    call : Call
        ``nn.conv2d`` in NHWC.
    params : Conv2dParams
    """

    var: relax.Var
    call: relax.Call
    params: Conv2dParams

    @property
    def name(self) -> str:
        """Of the layer."""
        return layer_name(self.call) or ""

    @property
    def problem(self) -> ConvProblem:
        """What is asked of it."""
        return conv_problem(self.call, self.params)

    @property
    def plane(self) -> tuple[int, int, int]:
        """Height, width and channels of its result."""
        found = plane_of(self.call)
        assert found is not None, "conv2d_of takes planes of known size only"
        return found

    @property
    def height(self) -> int:
        """Rows of its input."""
        return int(self.call.args[0].ty.shape[1])

    @property
    def batch(self) -> int:
        """Items, 1 if unknown."""
        return extent(self.call.ty.shape[0])


@dataclass(frozen=True)
class Chain:
    """Stages in the order in which they run, and the method that they are."""

    method: str
    op: str
    stages: tuple[Stage, ...]

    @property
    def last(self) -> Stage:
        """The stage whose result the others are for."""
        return self.stages[-1]

    @property
    def linear(self) -> bool:
        """Whether nothing but biases stands between its stages."""
        return is_linear(self.stages)

    @property
    def multiplies(self) -> bool:
        """Whether it is a depthwise stage with several kernels for each channel, and a 1×1 one."""
        first, pair = self.stages[0], len(self.stages) == 2 and self.last.pointwise
        return pair and first.depthwise and first.out_channels > first.channels


def separable_chains(func: relax.Function, apart: Collection[str] = ()) -> list[Chain]:
    """All chains of ``func``, a straight line of bindings, without the layers ``apart``."""
    links = _links(func)
    taken: set[relax.Var] = set()
    chains = []
    for method, op, length, matches in PATTERNS:
        for var in links:
            stages = _behind(var, length, links)
            if len(stages) < length or not taken.isdisjoint(stage.var for stage in stages):
                continue
            if any(stage.name in apart for stage in stages):
                continue
            if matches(stages):
                taken.update(stage.var for stage in stages)
                chains.append(Chain(method, op, stages))
    return chains


_Links = dict[relax.Var, tuple[Stage, Stage | None]]
"""Variable → the convolution that it is, and the one whose result that reads, with what stands between."""


def _behind(var: relax.Var, length: int, links: _Links) -> tuple[Stage, ...]:
    stage, before = links[var]
    stages = [stage]
    while before is not None and len(stages) < length:
        stages.append(before)
        before = links[before.var][1]
    return tuple(reversed(stages))


def _links(func: relax.Function) -> _Links:
    bindings = [binding for block in func.body.blocks for binding in block.bindings]
    values, uses = {b.var: b.value for b in bindings}, count_uses(func)
    links: _Links = {}
    for var, value in values.items():
        found = conv2d_of(value) if op_name(value) == "nn.conv2d" else None
        if found is not None:
            params, weight = found
            stage = Stage(var=var, call=value, params=params, weight=weight, groups=params.groups)
            links[var] = (stage, _before(stage, values, uses, links))
    return links


def _before(stage: Stage, values: dict, uses: Counter, links: _Links) -> Stage | None:
    """The convolution whose result alone ``stage`` is computed from, where nobody else reads what lies between."""
    sources, between, readers = set(), [], Counter(_variables([stage.call.args[0]]))
    waiting = list(readers)
    while waiting:
        var = waiting.pop()
        value = values.get(var)
        if var in links:
            sources.add(var)
        elif (
            value is not None
            and op_name(value) in ELEMENTWISE
            and list(value.ty.shape) == list(stage.call.args[0].ty.shape)
        ):
            between.append(value)
            read = _variables(value.args)
            waiting += [var for var in read if var not in readers]
            readers.update(read)
        else:
            return None
    if len(sources) != 1 or any(uses[var] != count for var, count in readers.items()):
        return None
    (source,) = sources
    before = links[source][0]
    # A constant between may have made one pixel, channel or item many.
    if plane_of(before.call) is None or list(before.call.ty.shape) != list(stage.call.args[0].ty.shape):
        return None
    biases = [bias for bias in map(_bias, between) if bias is not None]
    if len(biases) < len(between):
        return dataclasses.replace(before, linear=False)
    return dataclasses.replace(before, bias=np.sum(biases, axis=0) if biases else None)


def _variables(args: list[relax.Expr]) -> set[relax.Var]:
    return {arg for arg in args if isinstance(arg, relax.Var)}


def _bias(call: relax.Call) -> np.ndarray | None:
    """The constant that ``call`` adds to each channel, if that is all it does."""
    added = [array for array in map(constant_array, call.args) if array is not None]
    if op_name(call) != "add" or len(added) != 1:
        return None
    vector = channel_vector(added[0], 4, 3)
    return None if vector is None else np.broadcast_to(vector, (int(call.ty.shape[3]),)).astype(np.float64)
