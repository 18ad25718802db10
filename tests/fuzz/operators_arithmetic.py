"""Arithmetic of one and two values, of floats, integers and masks."""

import torch

from .network import Draw, Value
from .operators import operator

_ACTIVATIONS = (
    "F.relu", "F.relu6", "F.leaky_relu", "F.elu", "F.selu", "F.celu", "F.gelu", "F.silu", "F.mish", "F.hardswish",
    "F.hardsigmoid", "torch.sigmoid", "torch.tanh", "F.softplus", "F.softsign", "F.logsigmoid", "F.tanhshrink",
    "torch.abs", "torch.sin", "torch.cos", "torch.square", "torch.neg", "torch.atan", "torch.erf",
)  # fmt: skip


@operator()
def activation(draw: Draw, x: Value) -> str:
    slope = f"torch.tensor({[draw.number(-1, 1) for _ in range(draw.choice(1, x.shape[1]))]})"
    return draw.choice(
        f"{draw.choice(*_ACTIVATIONS)}({x})",
        f"{draw.choice(*_ACTIVATIONS)}({x})",
        f"{draw.choice(*_ACTIVATIONS)}({x})",
        f"F.prelu({x}, {slope})",
        f"F.leaky_relu({x}, {draw.number(-1, 2)})",
        f"F.elu({x}, {draw.number(-1, 2)})",
        f"F.softplus({x}, {draw.number(0.5, 3)}, {draw.number(1, 9)})",
        f"torch.exp(-{x}.abs())",
        f"torch.sqrt({x}.abs() + 0.5)",
        f"torch.log({x}.abs() + 0.5)",
        f"torch.rsqrt({x}.square() + 0.5)",
        f"torch.pow({x}, {draw.choice(2, 3, 4)})",
        f"F.softmax({x}, {draw.rng.randrange(1, x.data.ndim)})",
        f"F.log_softmax({x}, {draw.rng.randrange(1, x.data.ndim)})",
        f"F.normalize({x}, dim={draw.rng.randrange(1, x.data.ndim)})",
    )


@operator(kinds="float int")
def clamp(draw: Draw, x: Value) -> str:
    whole = not x.data.dtype.is_floating_point
    low, high = (draw.rng.randint(-4, 4) if whole else draw.number(-2, 2) for _ in range(2))
    if draw.rng.random() < 0.6:
        low, high = min(low, high), max(low, high)
    return draw.choice(
        f"torch.clamp({x}, {low}, {high})",
        f"torch.clamp({x}, {low}, {high})",
        f"torch.clamp({x}, min={low})",
        f"torch.clamp({x}, max={high})",
        f"torch.clamp({x}, torch.tensor({low}), torch.tensor({high}))",
        f"F.hardtanh({x}, {min(low, high)}, {max(low, high) + 1})",
    )


@operator(kinds="float int")
def scale(draw: Draw, x: Value) -> str:
    if not x.data.dtype.is_floating_point:
        return f"{x} * {draw.rng.randint(-3, 3)} + {draw.rng.randint(-3, 3)}"
    rows = [[[draw.number(-2, 2)]] for _ in range(x.shape[1])] if x.data.ndim == 4 else draw.number(-2, 2)
    return draw.choice(
        f"{x} * {draw.number(-2, 2)}",
        f"{x} / {draw.choice(-3.0, 0.7, 5)} + {draw.number(-1, 1)}",
        f"{draw.number(-1, 1)} - {x}",
        f"{x} * torch.tensor({rows}) + torch.tensor({rows})",
        f"torch.add({x}, {x}, alpha={draw.number(-2, 2)})",
    )


def _beside(draw: Draw, x: Value, dtypes: str) -> Value | None:
    """An earlier value that broadcasts with ``x`` and is of one of these dtypes."""

    def fits(v: Value) -> bool:
        same = v.data.ndim == x.data.ndim and v.shape[0] == x.shape[0]
        sides = zip(v.shape, x.shape, strict=False)
        return (
            same
            and str(v.data.dtype).removeprefix("torch.") in dtypes
            and all(a == b or 1 in (a, b) for a, b in sides)
        )

    return draw.partner(fits)


@operator(kinds="float int")
def combine(draw: Draw, x: Value) -> str | None:
    other = _beside(draw, x, "float32 int64 int32 bool")
    if other is None:
        return None
    same = x.data.dtype == other.data.dtype
    options = [f"{x} + {other}", f"{x} * {other}", f"{other} + {x}"]
    if other.data.dtype.is_floating_point or x.data.dtype.is_floating_point or same:
        options += [f"{x} - {other} * 0.5" if x.data.dtype.is_floating_point else f"{x} - {other}"]
    if same:
        options += [f"torch.maximum({x}, {other})", f"torch.minimum({x}, {other})"]
    return draw.choice(*options)


@operator(kinds="int")
def divide_integers(draw: Draw, x: Value) -> str:
    divisor = draw.choice(-1, 1) * draw.rng.randint(1, 7)
    return draw.choice(
        f"{x} // {divisor}",
        f"{x} % {divisor}",
        f"torch.div({x}, {divisor}, rounding_mode='floor')",
        f"torch.div({x}, {divisor}, rounding_mode='trunc')",
        f"torch.fmod({x}, {divisor})",
        f"torch.remainder({x}, {divisor})",
        f"{x} / {divisor}",
    )


@operator(kinds="int")
def divide_by_integers(draw: Draw, x: Value) -> str | None:
    other = draw.partner(lambda v: v.data.dtype == x.data.dtype and v.shape == x.shape)
    assert other is not None  # x itself
    divisor = draw.choice(
        f"({other}.abs() + 1)", f"-({other}.abs() + 1)", f"torch.where({other} == 0, 3, {other})"
    )
    return draw.choice(
        f"{x} // {divisor}", f"{x} % {divisor}", f"torch.fmod({x}, {divisor})", f"{x} / {divisor}"
    )


@operator(kinds="int")
def integers(draw: Draw, x: Value) -> str:
    number = draw.rng.randint(-6, 6)
    return draw.choice(
        f"-{x}",
        f"{x}.abs()",
        f"torch.sign({x})",
        f"{x} & {abs(number)}",
        f"{x} | {number}",
        f"{x} ^ {number}",
        f"~{x}",
        f"{x} {draw.choice('<', '<=', '==', '!=', '>', '>=')} {number}",
        f"{x}.bool()",
        f"{x}.to(torch.{draw.choice('int32', 'int64')})",
        f"{x}.clamp(-9, 9) ** 2",
        f"{number} - {x}",
    )


@operator(kinds="int bool")
def floats(draw: Draw, x: Value) -> str:
    factor = draw.number(-2, 2)
    return draw.choice(
        f"{x}.float()",
        f"{x}.float()",
        f"{x}.float() * 2 - 1",
        f"{x} * {factor}",
        f"torch.where({x} > 0, {factor}, -1.0)"
        if x.data.dtype != torch.bool
        else f"torch.where({x}, 1.0, {factor})",
        f"{x}.float() / 3",
    )


@operator(kinds="bool")
def masks(draw: Draw, x: Value) -> str | None:
    other = draw.partner(lambda v: v.data.dtype == x.data.dtype and v.shape == x.shape)
    assert other is not None  # x itself
    return draw.choice(
        f"~{x}",
        f"{x} & {other}.flip(1)",
        f"{x} | {other}",
        f"{x} ^ {other}.roll(1, 1)",
        f"torch.logical_xor({x}, {other}.flip(-1))",
        f"{x}.long()",
        f"{x}.int() + {other}",
        f"{x}.any(1, keepdim=True)",
        f"{x}.all(-1, keepdim=True)",
        f"{x}.sum(1, keepdim=True)",
    )


@operator(kinds="bool")
def selected(draw: Draw, x: Value) -> str | None:
    first = _beside(draw, x, "float32")
    if first is None:
        return None
    return draw.choice(
        f"torch.where({x}, {first}, {draw.number(-2, 2)})",
        f"torch.where({x}, -{first}, {first})",
        f"{first}.masked_fill({x}, {draw.number(-2, 2)})",
        f"{first} * {x}",
        f"{first} + {x}",
    )


@operator(kinds="float int")
def reduce(draw: Draw, x: Value) -> str:
    axes = sorted(draw.rng.sample(range(1, x.data.ndim), draw.rng.randint(1, x.data.ndim - 1)))
    keep = draw.rng.random() < 0.7
    names = (
        ("sum", "amax", "amin", "sum")
        if not x.data.dtype.is_floating_point
        else ("sum", "amax", "amin", "mean")
    )
    if x.data.dtype.is_floating_point and draw.rng.random() < 0.2:
        return f"{x}.{draw.choice('var', 'std')}({axes}, keepdim={keep})"
    return f"{x}.{draw.choice(*names)}({axes}, keepdim={keep})"
