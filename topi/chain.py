"""Chains of convolutions in one function: each stage is computed strip by strip, just before the next one reads it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from tvm import te

from tvm_fastconv.typed_json import one_line

from .conv2d import ConvProblem, conv2d, conv2d_reference, pack_weight
from .depthwise_conv2d import DepthwiseProblem, depthwise_conv2d, kernel_major, pack_depthwise_weight
from .fixed_stencil_conv2d import StencilProblem, fixed_stencil_conv2d_reference, fixed_stencils
from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, activated, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .schedules.cpu.tile import LoopsOnly, TileKnobs
from .schedules.cpu.window import WindowKnobs, window_cost
from .schedules.cuda.chain_knobs import GpuChainKnobs
from .window import extents

if TYPE_CHECKING:
    from typing_extensions import Self

MIN_TASKS = 4
"""Strips of a fused chain, for the threads to share."""


@dataclass(frozen=True, kw_only=True)
class ChainProblem(Problem):
    """Several convolutions, each of what the one before gives: plain ones of one group, depthwise ones, stencils."""

    stages: tuple[ConvProblem, ...]

    @property
    def key(self) -> str:
        """The operators and keys of all stages."""
        return one_line([[operator_of_stage(stage), asdict(stage)] for stage in self.stages])

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Inverse of `key`."""
        stages = json.loads(key)
        if not isinstance(stages, list) or not stages:
            raise ValueError(f"problem is {key[:60]}; expected a list of stages")
        found = []
        for stage in stages:
            if not isinstance(stage, list) or len(stage) != 2 or stage[0] not in STAGES:
                raise ValueError(
                    f"a stage is {str(stage)[:60]}; expected one of {', '.join(STAGES)} and its problem"
                )
            found.append(STAGES[stage[0]].from_key(json.dumps(stage[1])))
        return cls(batch=found[0].batch, stages=tuple(found))


STAGES: dict[str, type[ConvProblem]] = {
    "conv2d": ConvProblem,
    "depthwise_conv2d": DepthwiseProblem,
    "fixed_stencils": StencilProblem,
}
"""The operators that a stage can be, and what each is asked."""


def operator_of_stage(stage: ConvProblem) -> str:
    """The name of the operator that computes a stage."""
    return next(name for name, problem in STAGES.items() if type(stage) is problem)


@dataclass(frozen=True, kw_only=True)
class ChainKnobs(KnobSet):
    """Output rows of a strip, and the knobs of every stage.

    Attributes
    ----------
    any_batch : bool
        Whether it may be symbolic. Here, the bounds of a strip within one are beyond TVM's analysis.
    most_stages : int, optional
        That one function takes; the last ones of a longer chain.
    rows : int
    stages : tuple of TileKnobs or WindowKnobs
    """

    any_batch: ClassVar[bool] = False
    most_stages: ClassVar[int | None] = None

    rows: int
    stages: tuple[TileKnobs | WindowKnobs, ...]

    def __post_init__(self) -> None:
        if type(self.rows) is not int or self.rows < 1:
            raise ValueError(f"knob rows is {self.rows!r}; allowed: integers from 1")

    @classmethod
    def space(cls, problem: ChainProblem, machine: Machine) -> Iterator[Self]:
        """Every strip whose inner values stay in L2; in each, every tile of one stage beside the best of the others."""
        for plan in cls._plans(problem, machine):
            yield plan
            for place, stage in enumerate(problem.stages):
                strip = plan.rows if place == len(problem.stages) - 1 else 1
                for tile in _tiles(stage, strip, machine):
                    if tile != plan.stages[place]:
                        yield dataclasses.replace(
                            plan, stages=(*plan.stages[:place], tile, *plan.stages[place + 1 :])
                        )

    @classmethod
    def default(cls, problem: ChainProblem, machine: Machine) -> Self | None:
        """The strip with the least estimated cycles; ``None`` where no strip's inner values stay in L2."""
        return min(cls._plans(problem, machine), key=lambda plan: plan.cycles(problem, machine), default=None)

    def cycles(self, problem: ChainProblem, machine: Machine) -> float:
        """Of the whole batch."""
        last, total = problem.stages[-1], 0.0
        batch, strips, sizes = last.batch, last.output_size[0] // self.rows, self._strip_bytes(problem)
        for stage, knobs, needed in zip(problem.stages, self.stages, self._rows_of(problem), strict=True):
            total += batch * strips * needed * _row_cycles(stage, knobs, machine)
        total += batch * strips * sum(2 * size / machine.l2_bandwidth for size in sizes)
        weight_bytes = sum(4 * int(np.prod(stage.weight_shape)) for stage in problem.stages)
        if sum(sizes) + weight_bytes > machine.l2_bytes:  # every strip reads them from further away
            total += batch * strips * weight_bytes / machine.l3_bandwidth
        return total

    def to_json(self) -> str:
        """One line."""
        return one_line(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`."""
        found = json.loads(text)
        if (
            not isinstance(found, dict)
            or set(found) != {"rows", "stages"}
            or type(found["stages"]) is not list
        ):
            raise ValueError(f"{text} does not hold the knobs rows, stages")
        stages: list[Any] = [
            (WindowKnobs if isinstance(stage, dict) and "rows" in stage else TileKnobs).from_json(
                json.dumps(stage)
            )
            for stage in found["stages"]
        ]
        return cls(rows=found["rows"], stages=tuple(stages))

    @classmethod
    def _plans(cls, problem: ChainProblem, machine: Machine) -> Iterator[Self]:
        last = problem.stages[-1]
        height = last.output_size[0]
        for rows in range(1, height + 1):
            if height % rows or last.batch * height < MIN_TASKS * rows:
                continue
            knobs = [_best_tile(stage, rows if stage is last else 1, machine) for stage in problem.stages]
            plan = cls(rows=rows, stages=tuple(knobs))
            if 2 * sum(plan._strip_bytes(problem)) <= machine.l2_bytes:
                yield plan

    def _rows_of(self, problem: ChainProblem) -> list[int]:
        """Rows of every stage's result that a strip needs."""
        needed = [self.rows]
        for stage in reversed(problem.stages[1:]):
            conv = stage.conv
            below = (needed[0] - 1) * conv.stride[0] + (conv.kernel[0] - 1) * conv.dilation[0] + 1
            needed.insert(0, min(below, stage.height))
        return needed

    def _strip_bytes(self, problem: ChainProblem) -> list[int]:
        """What lies between two stages under one strip."""
        return [
            4 * rows * stage.output_size[1] * stage.conv.out_channels
            for stage, rows in zip(problem.stages[:-1], self._rows_of(problem), strict=False)
        ]


def _tiles(stage: ConvProblem, strip: int, machine: Machine) -> list[Any]:
    """Knobs of one stage in tiles of one row."""
    if isinstance(stage, DepthwiseProblem | StencilProblem):
        return [dataclasses.replace(WindowKnobs.default(stage, machine), rows=strip)]
    return [
        dataclasses.replace(tile, strip=strip, chunks=1)
        for tile in TileKnobs.tiles(_one_row(stage), machine)
        if stage.output_size[1] % tile.tile_w == 0
    ]


def _best_tile(stage: ConvProblem, strip: int, machine: Machine) -> Any:
    return min(
        _tiles(stage, strip, machine),
        key=lambda tile: (_row_cycles(stage, tile, machine), tile.to_json()),
    )


def _row_cycles(stage: ConvProblem, knobs: KnobSet, machine: Machine) -> float:
    """Of one row of the result."""
    if isinstance(stage, DepthwiseProblem | StencilProblem):
        loops = stage.window_loops
        vectors = loops.width * -(-loops.channels // machine.lanes)
        return machine.cycles(window_cost(loops, machine) * vectors)
    return knobs.cycles(_one_row(stage), machine)


def _one_row(stage: ConvProblem) -> LoopsOnly:
    """One row of the result of a stage on the register tile."""
    return LoopsOnly(dataclasses.replace(stage.loops, batch=1, height=1))


def make_chain(
    problem: ChainProblem, knobs: ChainKnobs | GpuChainKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """A chain alone, with `activated` behind every stage; kernels in another order have nothing behind them."""
    data, _ = problem.stages[0].random(rng)
    arrays: list[np.ndarray] = [data]
    plain = not any(map(_reorders, problem.stages))
    weights, biases, computes = [], [], []
    for stage, tile in zip(problem.stages, knobs.stages, strict=True):
        _, weight = stage.random(rng)
        weight /= np.float32(np.sqrt(weight[0].size))
        weights.append(weight)
        computes.append(_stage(stage, tile, weight, arrays))
        biases.append(rng.standard_normal(stage.conv.out_channels, np.float32) if plain else None)
    arrays += [bias for bias in biases if bias is not None]
    tensors = [te.placeholder(extents(*a.shape), "float32", name=f"arg{i}") for i, a in enumerate(arrays)]
    value, place = tensors[0], len(arrays) - len(biases)
    for number, (compute, packed) in enumerate(computes):
        value = compute(value, *(tensors[i] for i in packed))
        value = activated(value, tensors[place + number]) if plain else value

    def reference() -> np.ndarray:
        result = data
        for stage, weight, bias in zip(problem.stages, weights, biases, strict=True):
            if isinstance(stage, StencilProblem):
                result = fixed_stencil_conv2d_reference(result, stage.array, stage.conv)
            else:
                result = conv2d_reference(result, weight, stage.conv)
                if isinstance(stage, DepthwiseProblem) and stage.kernel_major:
                    result = kernel_major(result, stage.channels, 3)
            result = result if bias is None else np.maximum(result + bias, 0)
        return result

    return Sample(te.create_prim_func([*tensors, value]), tuple(arrays), reference)


def _reorders(stage: ConvProblem) -> bool:
    return isinstance(stage, StencilProblem) or (isinstance(stage, DepthwiseProblem) and stage.kernel_major)


def _stage(
    stage: ConvProblem, tile: Any, weight: np.ndarray, arrays: list[np.ndarray]
) -> tuple[Callable[..., te.Tensor], list[int]]:
    """The tensor expression of a stage, and which of ``arrays`` it takes; its packed weight is appended to them."""
    name = operator_of_stage(stage)
    how: dict[str, Any] = {"params": stage.conv, "tile": tile, "attrs": operator_attrs(name, stage, tile)}
    if isinstance(stage, StencilProblem):
        return partial(fixed_stencils, kernels=stage.array, **how), []
    if isinstance(stage, DepthwiseProblem):
        how["kernel_major"] = stage.kernel_major
        turned = kernel_major(weight, stage.channels, 0) if stage.kernel_major else weight
        arrays.append(pack_depthwise_weight(turned))
        return partial(depthwise_conv2d, **how), [len(arrays) - 1]
    arrays.append(pack_weight(weight, tile.panel))
    return partial(conv2d, **how), [len(arrays) - 1]


register_operator("chain", ChainProblem)
register_knobs("llvm", "chain", ChainKnobs, make_chain)
register_knobs("cuda", "chain", GpuChainKnobs, make_chain)
