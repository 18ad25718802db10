"""Chains of convolutions that factorise one, as they are found in the graph.

=============  ==========================================================  ==========================================
method         chain                                                       source
=============  ==========================================================  ==========================================
``cp``         1×1, depthwise k×1 and 1×k (or k×k), 1×1                    Lebedev et al., arXiv:1412.6553
``tucker``     1×1, k×k, 1×1                                               Kim et al., arXiv:1511.06530
``spatial``    k×1, 1×k                                                    Jaderberg et al., arXiv:1405.3866
``fixed``      depthwise with the same kernels for all channels, 1×1       fixed stencils
``separable``  depthwise, 1×1; or 1×1 to more channels, depthwise, 1×1     Sandler et al., MobileNetV2, 1801.04381
=============  ==========================================================  ==========================================

The first three have nothing but convolutions and inner biases inside; in the others anything that works element by
element may stand between. What somebody else reads too is no inner value, and ends a chain.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem

from ..graph.conv_call import conv2d_of, conv_problem, extent, plane_of
from ..graph.layer_names import layer_name
from ..graph.rewrite import channel_vector, constant_array, count_uses, op_name
from ..layout.layout_rules import ELEMENTWISE


@dataclass(frozen=True)
class Stage:
    """One convolution of a chain.

    Attributes
    ----------
    var : Var
        What it is bound to.
    call : Call
        ``nn.conv2d`` in NHWC.
    params : Conv2dParams
    weight : ndarray, (o, c / groups, kh, kw)
    bias : ndarray, (o,), optional
        Added in front of the next stage. ``None`` behind the last one, and where more than a bias stands between.
    linear : bool
        Whether at most a bias stands between this stage and the next.
    """

    var: relax.Var
    call: relax.Call
    params: Conv2dParams
    weight: np.ndarray
    bias: np.ndarray | None = None
    linear: bool = True

    @property
    def name(self) -> str:
        """Of the layer."""
        return layer_name(self.call) or ""

    @property
    def channels(self) -> int:
        """Of its input."""
        return self.weight.shape[1] * self.params.groups

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

    @property
    def pointwise(self) -> bool:
        """Whether it is 1×1 over all channels."""
        return self.params.kernel == (1, 1) and self.params.groups == 1

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel."""
        return self.params.groups > 1 and self.weight.shape[1] == 1

    @property
    def dense(self) -> bool:
        """Whether it is k×k over all channels."""
        return self.params.groups == 1 and max(self.params.kernel) > 1

    @property
    def shared_kernels(self) -> np.ndarray | None:
        """The kernels (multiplier, kh, kw) of a depthwise stage with several that are the same for every channel."""
        if not self.depthwise or self.params.out_channels == self.channels:
            return None
        kernels = self.weight.reshape(self.channels, -1, *self.params.kernel)
        return kernels[0] if kernels.any() and (kernels == kernels[0]).all() else None


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
        return _linear(self.stages)

    @property
    def multiplies(self) -> bool:
        """Whether it is a depthwise stage with several kernels for each channel, and a 1×1 one."""
        first, pair = self.stages[0], len(self.stages) == 2 and self.last.pointwise
        return pair and first.depthwise and first.params.out_channels > first.channels


Matches = Callable[[tuple[Stage, ...]], bool]


def _linear(stages: tuple[Stage, ...]) -> bool:
    return all(stage.linear for stage in stages[:-1])


def _is_cp(stages: tuple[Stage, ...]) -> bool:
    ends, middle = (stages[0], stages[-1]), stages[1:-1]
    return _linear(stages) and all(s.pointwise for s in ends) and all(s.depthwise for s in middle)


def _is_tucker(stages: tuple[Stage, ...]) -> bool:
    first, middle, last = stages
    return _linear(stages) and first.pointwise and middle.dense and last.pointwise


def _is_inverted_bottleneck(stages: tuple[Stage, ...]) -> bool:
    first, middle, last = stages
    expands = first.params.out_channels > max(first.channels, last.params.out_channels)
    return first.pointwise and middle.depthwise and last.pointwise and expands


def _is_spatial(stages: tuple[Stage, ...]) -> bool:
    kernels = [stage.params.kernel for stage in stages]
    return _linear(stages) and any(a[1] == b[0] == 1 < min(a[0], b[1]) for a, b in (kernels, kernels[::-1]))


def _is_fixed(stages: tuple[Stage, ...]) -> bool:
    return stages[0].shared_kernels is not None and stages[1].pointwise


def _is_depthwise_separable(stages: tuple[Stage, ...]) -> bool:
    return stages[0].depthwise and stages[1].pointwise


PATTERNS: tuple[tuple[str, str, int, Matches], ...] = (
    ("cp", "cp_conv2d", 4, _is_cp),
    ("cp", "cp_conv2d", 3, _is_cp),
    ("tucker", "tucker_conv2d", 3, _is_tucker),
    ("separable", "inverted_bottleneck", 3, _is_inverted_bottleneck),
    ("spatial", "spatial_conv2d", 2, _is_spatial),
    ("fixed", "fixed_stencil_conv2d", 2, _is_fixed),
    ("separable", "separable_conv2d", 2, _is_depthwise_separable),
)
"""(method, operator, number of stages, what they are); a convolution belongs to the first that takes it."""


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
            stage = Stage(var, value, *found)
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
