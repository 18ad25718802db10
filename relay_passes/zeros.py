"""What is known of a value's sign from the operators that made it: is it ever negative, is it often exactly 0?"""

from tvm import relax

from .graph import CallRewriter, constant_array, op_name
from .scalar_steps import number_of

NON_NEGATIVE = frozenset(("nn.relu", "sigmoid", "abs", "square", "exp", "sqrt", "nn.softmax", "nn.softplus"))
KEEPS_SIGN = frozenset((
    "clip", "nn.adaptive_avg_pool2d", "nn.avg_pool2d", "nn.max_pool2d", "nn.pad", "permute_dims", "reshape",
))  # fmt: skip
KEEPS_SIGN_OF_ALL = frozenset(("add", "concat", "maximum", "minimum", "multiply"))


def never_negative(rewriter: CallRewriter, expr: relax.Expr) -> bool:
    """Whether what made ``expr`` gives no negative values."""
    value = rewriter.definition(expr)
    if (array := constant_array(value)) is not None:
        return bool((array >= 0).all())
    if isinstance(value, relax.Tuple):
        return all(never_negative(rewriter, field) for field in value.fields)
    name = op_name(value)
    if name == "clip" and number_of(value.args[1]) >= 0:
        return True
    if name in KEEPS_SIGN_OF_ALL:
        return all(never_negative(rewriter, arg) for arg in value.args)
    return name in NON_NEGATIVE or (name in KEEPS_SIGN and never_negative(rewriter, value.args[0]))


def often_zero(rewriter: CallRewriter, expr: relax.Expr) -> bool:
    """Whether a share of ``expr`` is exactly 0 by construction: cut off by a relu or a clip."""
    value = rewriter.definition(expr)
    if isinstance(value, relax.Tuple):
        return any(often_zero(rewriter, field) for field in value.fields)
    name = op_name(value)
    if name == "clip" and 0 in (number_of(value.args[1]), number_of(value.args[2])):
        return True
    if name in ("concat", "multiply"):
        return any(often_zero(rewriter, arg) for arg in value.args)
    if name == "divide" or name in KEEPS_SIGN:
        return often_zero(rewriter, value.args[0])
    return name == "nn.relu"
