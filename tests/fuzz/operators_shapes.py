"""Operators that move values: padding, cutting, turning, joining, resizing, pooling."""

from .network import Draw, Value
from .operators import operator

ANY = "float int bool"


@operator(kinds=ANY, ranks=(3, 4))
def pad(draw: Draw, x: Value) -> str:
    axes = x.data.ndim - 2 if draw.rng.random() < 0.9 else 1
    amounts = tuple(draw.rng.randint(-2, 3) for _ in range(2 * axes))
    value = draw.choice(0, 0, 1, -1, 2) if x.data.dtype.is_floating_point or draw.choice(True, False) else 0
    if not x.data.dtype.is_floating_point or draw.rng.random() < 0.4:
        return f"F.pad({x}, {amounts}, value={value})"
    return f"F.pad({x}, {amounts}, {draw.choice('reflect', 'replicate', 'circular', 'circular')!r})"


@operator(kinds=ANY, ranks=(2, 3, 4))
def cut(draw: Draw, x: Value) -> str:
    parts = [":"]
    for size in x.shape[1:]:
        first, step = draw.rng.randrange(max(size // 2, 1)), draw.choice(1, 1, 2, 3)
        end = draw.choice("", "", f"{-draw.rng.randint(1, 2)}", f"{size - 1}")
        parts.append(draw.choice(":", f"{first}:{end}:{step}"))
    return f"{x}[{', '.join(parts)}]"


@operator(kinds=ANY, ranks=(3, 4))
def pick(draw: Draw, x: Value) -> str:
    axis = draw.rng.randrange(1, x.data.ndim)
    if draw.choice(True, False):
        return f"{x}.select({axis}, {draw.rng.randrange(-x.shape[axis], x.shape[axis])})"
    order = [draw.rng.randrange(x.shape[axis]) for _ in range(draw.rng.randint(1, 6))]
    return f"{x}[{':, ' * axis}{order}]"


@operator(kinds=ANY)
def flip(draw: Draw, x: Value) -> str:
    axes = draw.rng.sample(range(1, x.data.ndim), draw.rng.randint(1, x.data.ndim - 1))
    return f"{x}.flip({axes})"


@operator(kinds=ANY)
def roll(draw: Draw, x: Value) -> str:
    axes = draw.rng.sample(range(1, x.data.ndim), draw.rng.randint(1, x.data.ndim - 1))
    return f"{x}.roll({[draw.rng.randint(-4, 4) for _ in axes]}, {axes})"


@operator(kinds=ANY, ranks=(3, 4))
def turn(draw: Draw, x: Value) -> str:
    axes = list(range(1, x.data.ndim))
    draw.rng.shuffle(axes)
    return draw.choice(
        f"{x}.permute(0, {', '.join(map(str, axes))})",
        f"{x}.transpose(-1, -2)",
        f"torch.rot90({x}, {draw.choice(1, 2, 3)}, (-2, -1))",
    )


@operator(kinds=ANY, ranks=(3, 4))
def reshape(draw: Draw, x: Value) -> str:
    channels, axis = x.shape[1], draw.rng.randrange(1, x.data.ndim)
    factor = draw.choice(*[n for n in range(1, x.shape[axis] + 1) if x.shape[axis] % n == 0])
    return draw.choice(
        f"{x}.flatten({draw.choice(1, 2)})",
        f"{x}.unflatten(1, ({channels // 2}, 2)).transpose(1, 2).flatten(1, 2)",
        f"{x}.unflatten({axis}, ({factor}, -1)).sum({axis})",
        f"{x}.unflatten({axis}, ({factor}, -1)).amax({axis + 1})",
        f"{x}.flatten(1).unflatten(1, {tuple(x.shape[:0:-1])})",
    )


@operator(kinds=ANY)
def repeat(draw: Draw, x: Value) -> str:
    axis = draw.rng.randrange(1, x.data.ndim)
    times = [1] * x.data.ndim
    times[axis] = draw.choice(2, 3)
    return draw.choice(
        f"{x}.repeat({times})",
        f"{x}.repeat_interleave(2, {axis})",
        f"{x}.narrow({axis}, 0, 1).expand_as({x})",
    )


@operator(kinds=ANY)
def join(draw: Draw, x: Value) -> str | None:
    axis = draw.rng.randrange(1, x.data.ndim)
    other = draw.partner(
        lambda v: (
            v.data.ndim == x.data.ndim
            and v.data.dtype == x.data.dtype
            and all(a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if i != axis)
        )
    )
    assert other is not None  # x itself
    return (
        f"torch.cat([{x}, {other}], {axis})"
        if draw.choice(True, False)
        else f"torch.cat([{other}, {x}], {axis})"
    )


@operator(kinds=ANY, ranks=(2, 3, 4))
def chunk(draw: Draw, x: Value) -> str:
    axis, parts = draw.rng.randrange(1, x.data.ndim), draw.choice(2, 3)
    return f"torch.chunk({x}, {parts}, {axis})[{draw.rng.randrange(parts)}]"


@operator(ranks=(2, 3, 4))
def gate(draw: Draw, x: Value) -> str:
    axis = draw.rng.randrange(1, x.data.ndim)
    return draw.choice(
        f"F.glu({x}, {axis})", f"(lambda a, b: a * torch.sigmoid(b))(*torch.chunk({x}, 2, {axis}))"
    )


@operator(kinds=ANY, ranks=(4,))
def shuffle(draw: Draw, x: Value) -> str:
    fits = [f"F.pixel_shuffle({x}, {n})" for n in (2, 3) if x.shape[1] % (n * n) == 0]
    fits += [f"F.pixel_unshuffle({x}, {n})" for n in (2, 3) if not x.shape[2] % n and not x.shape[3] % n]
    fits += [f"F.channel_shuffle({x}, {n})" for n in (2, 3) if x.shape[1] % n == 0]
    return (
        draw.choice(*fits)
        if fits
        else f"F.pixel_unshuffle(F.pad({x}, (0, {x.shape[3] % 2}, 0, {x.shape[2] % 2})), 2)"
    )


@operator(ranks=(4,))
def max_pool(draw: Draw, x: Value) -> str:
    kernel, ceil = draw.sides(1, 4), draw.choice(True, False)
    padding = tuple(draw.rng.randint(0, k // 2) for k in kernel)
    how = f"{kernel}, {draw.sides(1, 3)}, {padding}, {draw.choice(1, 1, 2)}, ceil_mode={ceil}"
    return draw.choice(f"F.max_pool2d({x}, {how})", f"-F.max_pool2d(-{x}, {how})")


@operator(ranks=(4,))
def average_pool(draw: Draw, x: Value) -> str:
    kernel, ceil, include = draw.sides(1, 4), draw.choice(True, False), draw.choice(True, False)
    padding = tuple(draw.rng.randint(0, k // 2) for k in kernel)
    divisor = draw.choice(None, None, 3)
    return f"F.avg_pool2d({x}, {kernel}, {draw.sides(1, 3)}, {padding}, {ceil}, {include}, {divisor})"


@operator(ranks=(4,))
def adaptive_pool(draw: Draw, x: Value) -> str:
    return f"F.adaptive_{draw.choice('avg', 'max')}_pool2d({x}, {draw.choice(1, draw.sides(1, 5))})"


@operator(ranks=(3,))
def pool_1d(draw: Draw, x: Value) -> str:
    kernel = draw.rng.randint(1, 3)
    padding, ceil = draw.rng.randint(0, kernel // 2), draw.choice(True, False)
    how = f"{kernel}, {draw.rng.randint(1, 2)}, {padding}, ceil_mode={ceil}"
    return f"F.{draw.choice('avg', 'max')}_pool1d({x}, {how})"


@operator(ranks=(4,))
def interpolate(draw: Draw, x: Value) -> str:
    mode = draw.choice("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    smooth = mode in ("bilinear", "bicubic")
    size = draw.choice(f"size={draw.sides(2, 12)}", f"scale_factor={draw.choice(2, 0.5, 1.5, 3)}")
    align = draw.choice(True, False)
    rest = f", align_corners={align}" if smooth else ""
    if smooth and not align and draw.choice(True, False, False):
        rest += ", antialias=True"
    return f"F.interpolate({x}, {size}, mode={mode!r}{rest})"


@operator(ranks=(4,))
def patches(draw: Draw, x: Value) -> str:
    kernel = draw.sides(1, 3)
    return f"F.unfold({x}, {kernel}, padding={draw.choice(0, 1)}, stride={draw.choice(1, 2)})"
