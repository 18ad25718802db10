"""What one rounding may be a share of, element by element, for operators of Relax that are no layers.

A sum is as far off as its terms are large, not as its result is: what cancels keeps the errors of what it is made of.
`verify.torch_bounds` says the same of PyTorch's operators.
"""

import math
from collections.abc import Callable

import tvm
from tvm import relax

Emit = Callable[[relax.Expr], relax.Var]
Bound = Callable[[Emit, relax.Call, relax.Var], relax.Expr]


def bound_of(emit: Emit, call: relax.Call, value: relax.Var) -> relax.Var:
    """The magnitudes that ``value``, the result of ``call``, has roundings of; of its shape, or one that broadcasts."""
    return emit(_BOUNDS.get(call.op.name, _of_value)(emit, call, value))


def _of_value(_emit: Emit, _call: relax.Call, value: relax.Var) -> relax.Expr:
    return relax.op.abs(value)


def _of_operands(_emit: Emit, call: relax.Call, _value: relax.Var) -> relax.Expr:
    """Two numbers that may cancel."""
    return relax.op.add(*map(relax.op.abs, call.args))


def _of_input(_emit: Emit, call: relax.Call, _value: relax.Var) -> relax.Expr:
    """``x`` times 1 + erf(x)."""
    return relax.op.abs(call.args[0])


def _of_softmax(emit: Emit, call: relax.Call, value: relax.Var) -> relax.Expr:
    """A rounding of ``x − max`` is a share of the power."""
    largest = emit(relax.op.max(call.args[0], call.attrs.axis, keepdims=True))
    below = relax.op.add(emit(relax.op.subtract(largest, call.args[0])), relax.const(1.0, "float32"))
    return relax.op.multiply(value, below)


def _of_log_softmax(emit: Emit, call: relax.Call, value: relax.Var) -> relax.Expr:
    largest = emit(relax.op.max(emit(relax.op.abs(call.args[0])), call.attrs.axis, keepdims=True))
    return relax.op.add(relax.op.abs(value), relax.op.add(largest, relax.const(1.0, "float32")))


def _of_resize(emit: Emit, call: relax.Call, _value: relax.Var) -> relax.Expr:
    """Weights are differences of coordinates, which are rounded as what is as large as the plane."""
    plane = [place for place, letter in enumerate(str(call.attrs.layout)) if letter in "HW"]
    side = max(int(call.args[0].ty.shape[place]) for place in plane)
    largest = emit(relax.op.max(emit(relax.op.abs(call.args[0])), plane, keepdims=True))
    return relax.op.multiply(largest, relax.const((1 + side) / 2, "float32"))


def _of_sum(emit: Emit, call: relax.Call, _value: relax.Var) -> relax.Expr:
    size = emit(relax.op.abs(call.args[0]))
    total = emit(relax.Call(call.op, [size, *call.args[1:]], call.attrs, call.ty_args))
    terms = max(1.0, _size(call.args[0]) / _size(call))
    return relax.op.multiply(total, relax.const(math.sqrt(terms), "float32"))


def _of_norm(emit: Emit, call: relax.Call, _value: relax.Var) -> relax.Expr:
    """The terms of ``(x − mean) / deviation · gamma + beta``: the mean is rounded as what it is."""
    x, gamma, beta = call.args
    sizes, axes = list(x.ty.shape), [int(axis) % len(x.ty.shape) for axis in call.attrs.axes]
    parted, affine = x, axes
    if not call.op.name.endswith("layer_norm"):
        channel = int(call.attrs.channel_axis) % len(sizes)
        affine = [channel]
        if call.op.name.endswith("group_norm"):
            groups = int(call.attrs.num_groups)
            parts = [groups, sizes[channel] // groups]
            parted = emit(relax.op.reshape(x, [*sizes[:channel], *parts, *sizes[channel + 1 :]]))
            axes = [channel + 1, *(axis + (axis > channel) for axis in axes)]
    mean = emit(relax.op.mean(parted, axes, keepdims=True))
    centred = emit(relax.op.subtract(parted, mean))
    variance = relax.op.mean(relax.op.multiply(centred, centred), axes, keepdims=True)
    epsilon = relax.const(float(call.attrs.epsilon), "float32")
    deviation = emit(relax.op.sqrt(relax.op.add(variance, epsilon)))
    terms = relax.op.divide(relax.op.add(relax.op.abs(parted), relax.op.abs(mean)), deviation)
    fit = [size if axis in affine else 1 for axis, size in enumerate(sizes)]
    gamma, beta = (emit(relax.op.abs(relax.op.reshape(each, fit))) for each in (gamma, beta))
    return relax.op.add(relax.op.multiply(relax.op.reshape(terms, sizes), gamma), beta)


def _size(expr: relax.Expr) -> int:
    """Elements, but for unknown extents."""
    return math.prod(int(n) if isinstance(n, tvm.tirx.IntImm) else 1 for n in expr.ty.shape)


_BOUNDS: dict[str, Bound] = {
    "relax.add": _of_operands, "relax.subtract": _of_operands,
    "relax.nn.gelu": _of_input, "relax.nn.gelu_tanh": _of_input,
    "relax.nn.softmax": _of_softmax, "relax.nn.log_softmax": _of_log_softmax, "relax.image.resize2d": _of_resize,
    "relax.mean": _of_sum, "relax.sum": _of_sum, "relax.nn.avg_pool2d": _of_sum,
    "relax.nn.adaptive_avg_pool2d": _of_sum, "relax.nn.group_norm": _of_norm, "relax.nn.instance_norm": _of_norm,
    "relax.nn.layer_norm": _of_norm,
}  # fmt: skip
