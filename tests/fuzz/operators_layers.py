"""Convolutions, products and normalisations, with weights of every structure that is recognised."""

import math

from .network import Draw, Value
from .operators import operator

CHANNELS = (1, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32, 33)

_W = "{}.weight.data"
WEIGHTS = {
    "any": (),
    "signs": (f"{_W} = torch.sign({_W})",),
    "one scale": (f"{_W} = torch.sign({_W}) * 0.37",),
    "scales": (f"{_W} = torch.sign({_W}) * {_W}.abs().amax(tuple(range(1, {_W}.ndim)), True)",),
    "ternary": (f"{_W} = torch.sign({_W}) * ({_W}.abs() > {_W}.abs().mean()) * 0.5",),
    "two bits": (f"{_W} = torch.round({_W} / {_W}.abs().max() * 1.4) * 0.25",),
    "grid": (f"{_W} = (torch.round({_W} / {_W}.abs().max() * 7 + 0.5) - 0.5) * 0.125",),
    "pruned": (f"{_W} = {_W} * (torch.rand_like({_W}) < 0.2)",),
    "no filter": (f"{_W}[0] = 0",),
    "rank one": (f"{_W} = {_W}.mean(-1, True) * {_W}.mean(-2, True) * 9",),
    "equal filters": (f"{_W} = {_W}[:1].expand_as({_W}).clone()",),
}
"""What is done to the weights of a layer after it is made."""


def _weights(draw: Draw) -> tuple[str, ...]:
    return WEIGHTS["any"] if draw.rng.random() < 0.4 else WEIGHTS[draw.choice(*WEIGHTS)]


def _groups(draw: Draw, channels: int, filters: int) -> int:
    both = math.gcd(channels, filters)
    divisors = [n for n in range(1, both + 1) if both % n == 0]
    return 1 if draw.rng.random() < 0.6 else draw.choice(*divisors)


def _convolution(draw: Draw, channels: int, spatial: int, after: tuple[str, ...]) -> str:
    filters = draw.choice(*CHANNELS)
    kernel = draw.sides(1, 4, spatial)
    mode = draw.choice("zeros", "zeros", "zeros", "reflect", "replicate", "circular")
    padding: object = tuple(draw.rng.randint(0, k // 2 + (mode == "zeros")) for k in kernel)
    stride = draw.choice((1,) * spatial, (1,) * spatial, draw.sides(1, 3, spatial))
    if stride == (1,) * spatial and draw.rng.random() < 0.2:
        padding = "same"
    options = f"{stride}, {padding!r}, {draw.choice(1, 1, draw.sides(1, 2, spatial))}"
    groups, bias = _groups(draw, channels, filters), draw.choice(True, False)
    made = f"nn.Conv{spatial}d({channels}, {filters}, {kernel}, {options}, {groups}, {bias}, {mode!r})"
    return draw.layer(made, *after)


@operator(ranks=(4,))
def convolution(draw: Draw, x: Value) -> str:
    return f"{_convolution(draw, x.shape[1], 2, _weights(draw))}({x})"


@operator(ranks=(4,))
def sign_convolution(draw: Draw, x: Value) -> str:
    names = ("signs", "signs", "one scale", "scales", "ternary", "grid", "two bits")
    return f"{_convolution(draw, x.shape[1], 2, WEIGHTS[draw.choice(*names)])}({x})"


@operator(ranks=(4,))
def pointwise(draw: Draw, x: Value) -> str:
    filters, channels = draw.choice(*CHANNELS), x.shape[1]
    groups, bias = _groups(draw, channels, filters), draw.choice(True, False)
    made = f"nn.Conv2d({channels}, {filters}, 1, groups={groups}, bias={bias})"
    return f"{draw.layer(made, *_weights(draw))}({x})"


@operator(ranks=(4,))
def depthwise(draw: Draw, x: Value) -> str:
    channels, times, kernel = x.shape[1], draw.choice(1, 1, 2, 3), draw.choice(3, 3, 5, (1, 3), (3, 1), 2)
    options = f"padding={draw.choice(0, 1)}, stride={draw.choice(1, 1, 2)}, groups={channels}"
    made = f"nn.Conv2d({channels}, {channels * times}, {kernel}, {options})"
    return f"{draw.layer(made, *_weights(draw))}({x})"


@operator(ranks=(4,))
def low_rank(draw: Draw, x: Value) -> str:
    channels, rank, filters, kernel = (
        x.shape[1],
        draw.choice(1, 2, 3, 5),
        draw.choice(*CHANNELS),
        draw.choice(2, 3, 5),
    )
    pad, inner = kernel // 2, draw.choice(True, False)
    first = draw.layer(f"nn.Conv2d({channels}, {rank}, ({kernel}, 1), padding=({pad}, 0), bias={inner})")
    last = draw.layer(f"nn.Conv2d({rank}, {filters}, (1, {kernel}), padding=(0, {pad}))")
    return f"{last}({first}({x}))"


@operator(ranks=(4,))
def factorised(draw: Draw, x: Value) -> str:
    channels, rank, filters, kernel = (
        x.shape[1],
        draw.choice(1, 2, 4),
        draw.choice(*CHANNELS),
        draw.choice(1, 3),
    )
    first = draw.layer(f"nn.Conv2d({channels}, {rank}, 1, bias={draw.choice(True, False)})")
    pad = kernel // 2
    middle = draw.layer(f"nn.Conv2d({rank}, {rank}, {kernel}, padding={pad}, groups={draw.choice(1, rank)})")
    last = draw.layer(f"nn.Conv2d({rank}, {filters}, 1, bias={draw.choice(True, False)})")
    return f"{last}({middle}({first}({x})))"


@operator(ranks=(4,))
def dictionary(draw: Draw, x: Value) -> str:
    words, filters = draw.choice(2, 4, 8), draw.choice(*CHANNELS)
    first = draw.layer(f"nn.Conv2d({x.shape[1]}, {words}, 1, bias=False)")
    last = draw.layer(f"nn.Conv2d({words}, {filters}, 3, padding={draw.choice(0, 1)})", *WEIGHTS["pruned"])
    return f"{last}({first}({x}))"


@operator(ranks=(4,))
def transposed(draw: Draw, x: Value) -> str:
    filters, stride = draw.choice(*CHANNELS[:8]), draw.sides(1, 3)
    padding = draw.sides(0, 1)
    extra = tuple(draw.rng.randrange(s) for s in stride)
    kernel, groups, dilation = draw.sides(1, 4), _groups(draw, x.shape[1], filters), draw.choice(1, 1, 2)
    options = f"{stride}, {padding}, {extra}, {groups}, dilation={dilation}"
    made = f"nn.ConvTranspose2d({x.shape[1]}, {filters}, {kernel}, {options})"
    return f"{draw.layer(made, *_weights(draw))}({x})"


@operator(ranks=(3,))
def convolution_1d(draw: Draw, x: Value) -> str:
    return f"{_convolution(draw, x.shape[1], 1, _weights(draw))}({x})"


@operator(ranks=(2, 3, 4))
def linear(draw: Draw, x: Value) -> str:
    made = f"nn.Linear({x.shape[-1]}, {draw.choice(*CHANNELS)}, {draw.choice(True, False)})"
    return f"{draw.layer(made, *_weights(draw))}({x})"


@operator(ranks=(3, 4))
def batch_norm(draw: Draw, x: Value) -> str:
    after = ["{}.running_mean.uniform_(-1, 1)", "{}.running_var.uniform_(0.3, 3)"]
    affine = draw.rng.random() < 0.8
    if affine:
        after += ["{}.weight.data.uniform_(-1.5, 1.5)", "{}.bias.data.uniform_(-1, 1)"]
    if affine and draw.rng.random() < 0.2:
        after.append("{}.weight.data[::2] = 0")
    made = f"nn.BatchNorm{x.data.ndim - 2}d({x.shape[1]}, affine={affine})"
    return f"{draw.layer(made, *after)}({x})"


@operator(ranks=(4,))
def other_norm(draw: Draw, x: Value) -> str:
    channels = x.shape[1]
    groups = draw.choice(*[n for n in range(1, channels + 1) if channels % n == 0])
    made = draw.choice(
        f"nn.GroupNorm({groups}, {channels})",
        f"nn.InstanceNorm2d({channels}, affine=True)",
        f"nn.LayerNorm({list(x.shape[1:])})",
        f"nn.LayerNorm({x.shape[-1]})",
    )
    return f"{draw.layer(made, '{}.weight.data.uniform_(-2, 2)', '{}.bias.data.uniform_(-1, 1)')}({x})"


@operator(ranks=(3, 4))
def attention(draw: Draw, x: Value) -> str:
    causal = draw.choice(True, False)
    return f"F.scaled_dot_product_attention({x}, {x} * 0.5, {x}, is_causal={causal})"


@operator(kinds="float int bool")
def again(draw: Draw, x: Value) -> str | None:
    layers = draw.draft.layers
    return f"{draw.choice(*layers)}({x})" if layers else None


@operator(ranks=(4,))
def functional_weights(draw: Draw, x: Value) -> str:
    """Weights computed in the graph, from a parameter."""
    filters, kernel = draw.choice(*CHANNELS), draw.choice(1, 3)
    name = draw.layer(f"nn.Conv2d({x.shape[1]}, {filters}, {kernel})")
    w = f"{name}.weight"
    weight = draw.choice(
        f"torch.sign({w})",
        f"torch.sign({w}) * {w}.abs().mean((1, 2, 3), keepdim=True)",
        f"torch.where({w} >= 0, 1.0, -1.0)",
        f"({w} - {w}.mean((1, 2, 3), keepdim=True)) / {w}.std((1, 2, 3), keepdim=True).clamp(min=0.1)",
        f"torch.round({w}.clamp(-0.3, 0.3) * 10) / 10",
        f"(torch.sign({w}).detach() - {w}.clamp(-1, 1).detach() + {w}.clamp(-1, 1))",
        f"{w}.flip(2, 3)",
        f"{w}.roll(1, 0)",
    )
    return f"F.conv2d({x}, {weight}, {draw.choice('None', name + '.bias')}, padding={kernel // 2})"
