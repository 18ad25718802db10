"""One bit per channel, ``(x >= at) != flip``, and how it is followed back to what x was computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tvm_ffi
from tvm import relax

from tvm_fastconv.topi.bitpack import Thresholds

from ..graph.rewrite import CallRewriter, channel_vector, constant_array, op_name


@dataclass(frozen=True)
class Decision:
    """``bit = (x >= at) != flip``, or ``x > at`` where ``strict``; each array holds one value or one per channel.

    Attributes
    ----------
    at : ndarray, float64
    strict, flip : ndarray, bool
    """

    at: np.ndarray
    strict: np.ndarray
    flip: np.ndarray

    @classmethod
    def zero(cls) -> Decision:
        """``x >= 0``."""
        return cls(np.zeros(1), np.zeros(1, bool), np.zeros(1, bool))

    @classmethod
    def against(cls, x: relax.Expr, limit: np.ndarray, strict: bool, flip: bool) -> Decision | None:
        """Comparison of ``x`` with a constant that varies over its last axis at most."""
        at = _per_channel(x, limit)
        return None if at is None else cls(at, np.full(1, strict), np.full(1, flip))

    def thresholds(self, channels: int) -> Thresholds:
        """For a float32 x of so many channels."""
        at, strict, flip = (np.broadcast_to(a, channels) for a in (self.at, self.strict, self.flip))
        single = at.astype(np.float32)
        below = (single < at) | (strict & (single == at))
        return Thresholds(
            at=np.where(below, np.nextafter(single, np.float32(np.inf)), single), flip=flip.copy()
        )

    def integers(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """(at, flip) for an integer x: ``(x >= at) != flip``."""
        at, strict, flip = (np.broadcast_to(a, channels) for a in (self.at, self.strict, self.flip))
        return np.where(strict, np.floor(at) + 1, np.ceil(at)), flip.copy()

    def scaled(self, scale: np.ndarray) -> Decision:
        """The same bit, asked of y where x = scale · y."""
        at, strict, flip, scale = np.broadcast_arrays(self.at, self.strict, self.flip, scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = at / scale
        constant = np.where(strict, at < 0.0, at <= 0.0)
        moved = np.where(scale == 0, np.where(constant, -np.inf, np.inf), moved)
        # scale < 0: x >= at  <=>  y <= at / scale  <=>  not y > at / scale
        return Decision(moved, strict ^ (scale < 0), flip ^ (scale < 0))


def trace_back(rewriter: CallRewriter, x: relax.Expr, decision: Decision) -> tuple[relax.Expr, Decision]:
    """Follow ``decision`` about ``x`` back through operators that are monotone in each channel and read once."""
    readers = 1
    while True:
        value, step = rewriter.definition(x), None
        if isinstance(value, relax.Call) and isinstance(x, relax.Var) and rewriter.uses[x] <= readers:
            readers = 1
            step = _step(value, decision)
            if step is None and (sloped := _prelu(rewriter, value)) is not None:
                followed = _leaky(sloped[1], decision)
                readers, step = 2, None if followed is None else (sloped[0], followed)
        if step is None:
            return x, decision
        x, decision = step


def _step(value: relax.Call, decision: Decision) -> tuple[relax.Expr, Decision] | None:
    name = op_name(value)
    if name in ("add", "subtract", "multiply", "divide"):
        return _arithmetic(name, value, decision)
    if name == "negative":
        return value.args[0], decision.scaled(np.array(-1.0))
    if name == "clip":
        low, high = (float(getattr(arg, "value", arg)) for arg in value.args[1:])
        inside = ((decision.at > low) | (decision.strict & (decision.at == low))) & (
            (decision.at < high) | (~decision.strict & (decision.at == high))
        )
        return (value.args[0], decision) if inside.all() else None
    if name == "nn.relu":
        positive = (decision.at > 0) | (decision.strict & (decision.at == 0))
        return (value.args[0], decision) if positive.all() else None
    if name == "nn.leakyrelu":
        followed = _leaky(np.array(float(value.attrs.alpha)), decision)
        return None if followed is None else (value.args[0], followed)
    if name == "tanh":
        inside = np.abs(decision.at) < 1
        return (value.args[0], replace(decision, at=np.arctanh(decision.at))) if inside.all() else None
    return None


def _arithmetic(name: str, value: relax.Call, decision: Decision) -> tuple[relax.Expr, Decision] | None:
    left, right = value.args
    swapped = constant_array(left) is not None
    x, constant = (right, constant_array(left)) if swapped else (left, constant_array(right))
    if constant is None or not tvm_ffi.structural_equal(x.ty, value.ty):
        return None
    c = _per_channel(x, constant)
    if c is None or not np.isfinite(c).all():
        return None
    if name == "multiply":
        return x, decision.scaled(c)
    if name == "divide" and not swapped and (c != 0).all():
        return x, decision.scaled(1.0 / c)
    if name == "add":
        return x, replace(decision, at=decision.at - c)
    if name == "subtract":
        if swapped:  # c − x >= at  <=>  −x >= at − c
            return x, replace(decision, at=decision.at - c).scaled(np.array(-1.0))
        return x, replace(decision, at=decision.at + c)
    return None


def _prelu(rewriter: CallRewriter, value: relax.Call) -> tuple[relax.Expr, np.ndarray] | None:
    """(x, slope) of ``relu(x) + slope · min(x, 0)``, which PReLU is imported as."""
    if op_name(value) != "add" or not all(isinstance(arg, relax.Var) for arg in value.args):
        return None
    for above, below in (value.args, reversed(value.args)):
        rise, fall = rewriter.definition(above), rewriter.definition(below)
        if op_name(rise) != "nn.relu" or op_name(fall) != "multiply":
            continue
        slopes = [constant_array(arg) for arg in fall.args]
        part = rewriter.definition(fall.args[0] if slopes[0] is None else fall.args[1])
        slope = slopes[1] if slopes[0] is None else slopes[0]
        x = rise.args[0]
        if slope is None or op_name(part) != "minimum" or not part.args[0].same_as(x):
            continue
        zero, vector = constant_array(part.args[1]), _per_channel(x, slope)
        if zero is not None and not zero.any() and vector is not None:
            return x, vector
    return None


def _leaky(slope: np.ndarray, decision: Decision) -> Decision | None:
    """Slopes above zero keep the order: y >= at  <=>  x >= at, or at / slope below zero."""
    if not (slope > 0).all():
        return None
    return replace(decision, at=np.where(decision.at < 0, decision.at / slope, decision.at))


def _per_channel(x: relax.Expr, constant: np.ndarray) -> np.ndarray | None:
    rank = len(x.ty.shape)
    vector = channel_vector(constant, rank, rank - 1)
    return None if vector is None else vector.astype(np.float64)
