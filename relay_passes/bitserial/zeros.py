"""What is known of a value's sign from the operators that made it: is it ever negative, is it often exactly 0?"""

from tvm import relax

from ..graph.rewrite import Definitions, constant_array, op_name
from ..graph.scalar_steps import number_of, uniform_value

NON_NEGATIVE = frozenset(("nn.relu", "sigmoid", "abs", "square", "exp", "sqrt", "nn.softmax", "nn.softplus"))
ROUNDS = frozenset(("ceil", "floor", "round", "trunc"))
MOVES = frozenset((
    "broadcast_to", "expand_dims", "flip", "image.resize2d", "nn.max_pool2d", "nn.pad", "permute_dims", "repeat",
    "reshape", "split", "squeeze", "strided_slice", "take", "tile",
))  # fmt: skip
"""Each value of the result is one of the first argument's, but for a constant border and resizes between pixels."""

JOINS_OR_MEANS = frozenset(("concat", "nn.adaptive_avg_pool2d", "nn.avg_pool2d", "stack"))
"""Each is one of several arguments', or a mean."""

ODD_OR_GATED = frozenset((
    "asin", "atan", "erf", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.prelu", "nn.silu", "sign", "sinh", "tanh",
))  # fmt: skip
"""0 at 0, and not negative above it."""

KEEPS_SIGN = MOVES | JOINS_OR_MEANS | ROUNDS | ODD_OR_GATED
KEEPS_SIGN_OF_ALL = frozenset(("add", "divide", "minimum", "multiply"))
KEEPS_ZERO = (
    MOVES | JOINS_OR_MEANS | ODD_OR_GATED | {"abs", "divide", "negative", "sin", "sqrt", "square", "tan"}
)
"""Of the first argument."""


def never_negative(graph: Definitions, expr: relax.Expr) -> bool:
    """Whether what made ``expr`` gives no negative values."""
    value = graph.definition(expr)
    if (array := constant_array(value)) is not None:
        return bool((array >= 0).all())
    if isinstance(value, relax.TupleGetItem):
        return never_negative(graph, value.tuple_value)
    if isinstance(value, relax.Tuple):
        return all(never_negative(graph, field) for field in value.fields)
    name = op_name(value)
    if name is None or name in NON_NEGATIVE:
        return name is not None
    args = (never_negative(graph, arg) for arg in value.args)
    if name == "clip":
        low, high = number_of(value.args[1]), number_of(value.args[2])
        return high >= 0 and (low >= 0 or next(args))
    if name == "nn.pad" and value.attrs.pad_mode == "constant" and value.attrs.pad_value < 0:
        return False
    if name == "astype":
        return str(value.args[0].ty.dtype).startswith(("bool", "uint")) or next(args)
    if name == "where":
        return all(never_negative(graph, branch) for branch in value.args[1:])
    if name == "maximum":
        return any(args)
    return all(args) if name in KEEPS_SIGN_OF_ALL else name in KEEPS_SIGN and next(args)


def often_zero(graph: Definitions, expr: relax.Expr) -> bool:
    """Whether a share of ``expr`` is exactly 0 by construction: cut off, masked, rounded, or a border of zeros."""
    value = graph.definition(expr)
    if (array := constant_array(value)) is not None:
        return bool((array == 0).any())
    if isinstance(value, relax.TupleGetItem):
        return often_zero(graph, value.tuple_value)
    if isinstance(value, relax.Tuple):
        return any(often_zero(graph, field) for field in value.fields)
    name = op_name(value)
    if name is None or name == "nn.relu" or name in ROUNDS or uniform_value(graph, value) == 0:
        return name is not None
    args = (often_zero(graph, arg) for arg in value.args)
    if name == "clip":
        low, high = number_of(value.args[1]), number_of(value.args[2])
        return 0 in (low, high) or (low < 0 < high and next(args))
    if name == "nn.pad" and value.attrs.pad_mode == "constant" and value.attrs.pad_value == 0:
        return True
    if name == "astype":
        return not all(str(of.ty.dtype).startswith("float") for of in (value.args[0], value))
    if name == "where":
        return any(often_zero(graph, branch) for branch in value.args[1:])
    if name in ("add", "subtract"):
        first, second = (_half(graph, arg) for arg in value.args)
        if first and second and first[1] != second[1] and first[0].same_as(second[0]):
            return often_zero(graph, first[0])
        return all(args)
    return any(args) if name in ("maximum", "minimum", "multiply") else name in KEEPS_ZERO and next(args)


def _half(graph: Definitions, expr: relax.Expr) -> tuple[relax.Expr, bool] | None:
    """(x, whether above) of what is x above 0 or below 0, up to factors, and 0 on the other side: PReLU adds two."""
    value = graph.definition(expr)
    name = op_name(value)
    if name in ("negative", "multiply"):
        factors = [constant_array(graph.definition(arg)) for arg in value.args]
        operands = [arg for arg, factor in zip(value.args, factors, strict=True) if factor is None]
        scaled = len(operands) == 1 and all(factor is None or factor.all() for factor in factors)
        return _half(graph, operands[0]) if scaled else None
    if name == "clip" and 0 in (limits := [number_of(arg) for arg in value.args[1:]]):
        return _side(graph, value.args[0], above=limits[0] == 0)
    if name in ("maximum", "minimum") and uniform_value(graph, graph.definition(value.args[1])) == 0:
        return _side(graph, value.args[0], above=name == "maximum")
    return _side(graph, value.args[0], above=True) if name == "nn.relu" else None


def _side(graph: Definitions, expr: relax.Expr, above: bool) -> tuple[relax.Expr, bool]:
    value = graph.definition(expr)
    return (value.args[0], not above) if op_name(value) == "negative" else (expr, above)
