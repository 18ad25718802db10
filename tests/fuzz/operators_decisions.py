"""Signs, roundings and comparisons. A float value that lies next to a threshold would turn with the order of a sum.

So each draws a threshold, a scale or a shift that the values which it will be given stay away from; what is left is a
right bit or a wrong one.
"""

from .network import Draw, Value
from .operators import floors_safely, is_apart, operator, rounds_safely, threshold

_TRIES = 8


def _shifted(draw: Draw, x: Value) -> str | None:
    """``x`` or ``x - t``, with no value next to 0."""
    if is_apart(x.data, x.data) and draw.rng.random() < 0.7:
        return f"{x}"
    limit = threshold(draw, x)
    return None if limit is None else f"({x} - {limit})"


@operator()
def sign(draw: Draw, x: Value) -> str | None:
    value = _shifted(draw, x)
    if value is None:
        return None
    return draw.choice(
        f"torch.sign({value})",
        f"torch.sign({value})",
        f"torch.where({value} >= 0, 1.0, -1.0)",
        f"({value} >= 0).float() * 2 - 1",
        f"torch.sign(torch.clamp({value}, -1, 1))",
        f"torch.sign(F.hardtanh({value}))",
        f"torch.sign({value}).detach() - {value}.clamp(-1, 1).detach() + {value}.clamp(-1, 1)",
        f"({value} > 0).float() - ({value} < 0).float()",
        f"torch.sign({value}) * {draw.number(-2, 2)}",
        f"-torch.sign({value})",
        f"({value} > 0).float()",
        f"torch.sign({value}).clamp(min=0)",
    )


@operator()
def compare(draw: Draw, x: Value) -> str | None:
    limit = threshold(draw, x)
    return None if limit is None else f"{x} {draw.choice('<', '<=', '>', '>=')} {limit}"


@operator()
def between(draw: Draw, x: Value) -> str | None:
    limits = threshold(draw, x), threshold(draw, x)
    if None in limits:
        return None
    low, high = sorted(limits)
    return draw.choice(
        f"(({x} > {low}) & ({x} < {high})).float()",
        f"({x} > {low}).float() + ({x} > {high}).float()",
        f"torch.where({x} > {low}, torch.where({x} > {high}, 1.0, 0.5), -1.0)",
        f"({x} > {low}) ^ ({x} >= {high})",
    )


@operator()
def levels(draw: Draw, x: Value) -> str | None:
    """A few-level activation."""
    for _ in range(_TRIES):
        bits, step = draw.rng.randint(1, 4), draw.number(0.1, 1.5)
        top = 2**bits - 1
        written = {
            f"torch.round(torch.clamp({x} * {step}, 0, 1) * {top}) / {top}": (x.data * step).clamp(0, 1)
            * top,
            f"torch.clamp(torch.round({x} / {step}), {-top - 1}, {top}) * {step}": x.data / step,
            f"torch.clamp(torch.round({x} / {step}), 0, {top}) * {step}": x.data / step,
            f"torch.clamp(torch.round({x} / {step} + 0.4), -1, {top})": x.data / step + 0.4,
            f"torch.round(({x}.clamp(-1, 1) * 0.5 + 0.5) * {top}) / {top} * 2 - 1": (
                (x.data.clamp(-1, 1) * 0.5 + 0.5) * top
            ),
            f"torch.floor(torch.clamp({x} / {step}, 0, {top}) + 0.5)": (x.data / step).clamp(0, top),
        }
        expression = draw.choice(*written)
        if rounds_safely(written[expression]):
            return expression
    return None


@operator()
def fake_quantized(draw: Draw, x: Value) -> str | None:
    for _ in range(_TRIES):
        step, zero = draw.number(0.05, 1), draw.rng.randint(-3, 3)
        low, high = draw.choice((-8, 7), (0, 15), (-128, 127), (0, 255), (-4, 3))
        if rounds_safely(x.data / step):
            return f"torch.fake_quantize_per_tensor_affine({x}, {step}, {min(max(zero, low), high)}, {low}, {high})"
    return None


@operator()
def whole(draw: Draw, x: Value) -> str | None:
    """Rounded down, up, to zero; as floats or integers."""
    for _ in range(_TRIES):
        step = draw.number(-2, 2) or 1.0
        if floors_safely(x.data / step):
            return draw.choice(
                f"torch.floor({x} / {step})",
                f"torch.ceil({x} / {step})",
                f"torch.trunc({x} / {step})",
                f"{x} // {step}",
                f"torch.div({x}, {step}, rounding_mode='trunc')",
                f"({x} / {step}).long()",
                f"({x} / {step}).to(torch.int32)",
                f"torch.floor({x} / {step}).long()",
                f"{x} % {step}",
                f"torch.fmod({x}, {step})",
                f"torch.frac({x} / {step})",
            )
    return None
