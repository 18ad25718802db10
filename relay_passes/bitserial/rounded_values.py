"""Values that are rounded to a grid: ``round(clip(x · n))``, before or after scaling, shifting and clipping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from tvm_fastconv.topi.bitpack import Grid

from ..graph.near_miss import NearMiss
from ..graph.rewrite import Definitions, op_name
from ..graph.scalar_steps import number_of, scalar_step

MAX_DIGITS = 8


@dataclass(frozen=True)
class Rounded:
    """``gain · clip(round(scale · (x / divisor) + shift), low, high) + bias``; before rounding, without ``round``.

    Division is kept: its result is rounded otherwise than a product's, and halves are where levels part.
    """

    source: relax.Expr
    divisor: float = 1.0
    scale: float = 1.0
    shift: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    rounded: bool = False
    gain: float = 1.0
    bias: float = 0.0

    def affine(self, function: Callable[[float], float]) -> Rounded | None:
        """Followed by ``function``, which is linear."""
        gain, bias = function(1.0) - function(0.0), function(0.0)
        if self.rounded:
            return replace(self, gain=self.gain * gain, bias=self.bias * gain + bias)
        if not gain > 0:
            return None
        return replace(
            self,
            scale=self.scale * gain,
            shift=self.shift * gain + bias,
            low=self.low * gain + bias,
            high=self.high * gain + bias,
        )

    def clip(self, low: float, high: float) -> Rounded | None:
        """Followed by a clip."""
        if self.rounded:
            if self.gain <= 0:
                return None
            low, high = (low - self.bias) / self.gain, (high - self.bias) / self.gain
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))

    def round(self) -> Rounded | None:
        """Followed by a rounding, which rounds the bounds of the clips before it too."""
        if self.rounded or any(0 < abs(abs(b % 1) - 0.5) < 1e-5 for b in (self.low, self.high)):
            return None
        return replace(self, low=float(np.round(self.low)), high=float(np.round(self.high)), rounded=True)

    def grid(self) -> tuple[Grid, int, int] | NearMiss | None:
        """(grid, step, offset) of ``value = gain / step · (step · q + offset)``, if its levels are few.

        ``None`` where they are no levels; a near miss where they are too many, or zero lies between them.
        """
        low, high = round(self.low), round(self.high)
        if abs(self.low - low) > 1e-4 or abs(self.high - high) > 1e-4 or self.gain <= 0:
            return None
        grid = Grid(divisor=self.divisor, scale=self.scale, shift=self.shift, low=low, high=high)
        offset = low + self.bias / self.gain
        if not 1 <= grid.digits <= MAX_DIGITS:
            return NearMiss(f"its input has {high - low + 1} levels") if high > low else None
        for step in (1, 2):
            if abs(step * offset - round(step * offset)) <= 1e-4:
                return grid, step, round(step * offset)
        return NearMiss("the levels of its input are no multiples of half their distance")


def rounded_value(graph: Definitions, expr: relax.Expr) -> Rounded | None:
    """``expr`` as a rounded value whose clips make it finite."""
    found = _rounded(graph, expr)
    finite = found is not None and found.rounded and np.isfinite([found.low, found.high]).all()
    return found if finite else None


def _rounded(graph: Definitions, expr: relax.Expr) -> Rounded | None:
    value = graph.definition(expr)
    name = op_name(value)
    inner: Rounded | None
    if name == "round":
        inner = _rounded(graph, value.args[0]) or Rounded(value.args[0])
        return inner.round()
    if name == "clip":
        inner = _rounded(graph, value.args[0]) or Rounded(value.args[0])
        return inner.clip(number_of(value.args[1]), number_of(value.args[2]))
    if name == "nn.relu":
        inner = _rounded(graph, value.args[0]) or Rounded(value.args[0])
        return inner.clip(0.0, np.inf)
    if (affine := scalar_step(graph, value)) is not None:
        inner = _rounded(graph, affine[0]) or Rounded(affine[0])
        result = inner.affine(affine[1])
        divides = (
            name == "divide" and not inner.rounded and (inner.divisor, inner.scale, inner.shift) == (1, 1, 0)
        )
        if result is None or not divides:
            return result
        return replace(result, divisor=1 / affine[1](1.0), scale=1.0)
    return None
