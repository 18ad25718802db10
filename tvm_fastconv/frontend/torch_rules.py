"""What the registered rules for aten operators look like: a converter, and a check that refuses what it cannot do.

A rule replaces TVM's own converter of the same operator where that one is missing, wrong or wasteful. Rules live in
``torch_rules_nn.py`` (convolutions, matrix products, norms, attention), ``torch_rules_pool.py``,
``torch_rules_image.py`` (padding, resizing, patches), ``torch_rules_math.py`` (activations, arithmetic),
``torch_rules_quantize.py`` (quantized values) and ``torch_rules_tensor.py`` (reductions, indexing).
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx
from tvm import relax

Emit = Callable[[relax.Expr], relax.Var]
# (arguments by schema name, emit) -> the node's value. Tensors are Relax expressions, the rest plain Python.
Converter = Callable[[SimpleNamespace, Emit], Any]
# fx node -> why it cannot be converted, or None.
Refusal = Callable[[fx.Node], "str | None"]


@dataclass(frozen=True)
class Rule:
    """How one aten overload is imported."""

    convert: Converter
    refuse: Refusal | None = None
    keep: bool = False  # exclude the operator from torch.export's decompositions
    inline: bool = (
        False  # weights and other constants are given as constants, not as variables bound to them later
    )


RULES: dict[str, Rule] = {}


def rule(
    *overloads: str, refuse: Refusal | None = None, keep: bool = False, inline: bool = False
) -> Callable[[Converter], Converter]:
    """Register the decorated converter for ``overloads`` (``"linear.default"``)."""

    def register(convert: Converter) -> Converter:
        RULES.update(dict.fromkeys(overloads, Rule(convert, refuse, keep, inline)))
        return convert

    return register


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the node's arguments by their schema names (``self`` is called ``input``), defaults filled in."""
    values = {}
    for index, argument in enumerate(node.target._schema.arguments):
        name = "input" if argument.name == "self" else argument.name
        positional = not argument.kwarg_only and index < len(node.args)
        values[name] = (
            node.args[index] if positional else node.kwargs.get(argument.name, argument.default_value)
        )
    return values


def node_shape(node: fx.Node) -> tuple:
    """Return the shape of the tensor a node makes; dynamic dimensions are ``torch.SymInt``."""
    return tuple(node.meta["val"].shape)


def shape(tensor: relax.Expr) -> list:
    """Return a Relax tensor's shape: ``int`` for fixed dimensions, expressions for dynamic ones."""
    if tensor.ty.shape is None:
        raise ValueError("the shape of its input is not known before it runs")
    return [getattr(dimension, "value", dimension) for dimension in tensor.ty.shape]


def constant_like(value: float, tensor: relax.Expr) -> relax.Expr:
    """Return a scalar constant of the tensor's dtype."""
    return relax.const(value, tensor.ty.dtype)


def promoted(left: Any, right: Any, emit: Emit, *, floating: bool = False) -> list[relax.Expr]:
    """Return two operands, one of them a tensor at least, in the dtype in which PyTorch combines them.

    Integers become floating point where ``floating``, as in a division.
    """
    dtype = torch.result_type(_sample(left), _sample(right))
    if floating and not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    return [as_dtype(operand, dtype, emit) for operand in (left, right)]


def as_dtype(operand: Any, dtype: torch.dtype, emit: Emit) -> relax.Expr:
    """Return a tensor or a number as a tensor of ``dtype``; a number that is known only at run time stays."""
    name = str(dtype).removeprefix("torch.")
    if not isinstance(operand, relax.Expr):
        return relax.const(operand, name)
    same = not isinstance(operand.ty, relax.TensorType) or dtype_of(operand) == dtype
    return operand if same else emit(relax.op.astype(operand, name))


def dtype_of(tensor: relax.Expr) -> torch.dtype:
    """Return the dtype of a Relax tensor as PyTorch's."""
    return getattr(torch, str(tensor.ty.dtype))


def _sample(operand: Any) -> Any:
    """What `torch.result_type` asks of an operand: dtype, whether it has axes, whether it is a number."""
    if not isinstance(operand, relax.Expr):
        return operand
    if not isinstance(operand.ty, relax.TensorType):
        return 0
    return torch.empty([1] * len(shape(operand)), dtype=dtype_of(operand), device="meta")


def pair(value: int | list[int] | tuple[int, ...]) -> list[int]:
    """Expand aten's ``int | [int] | [int, int] | []`` to two integers (or none)."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def as_image(op: SimpleNamespace, emit: Emit, spatial: int) -> list[int]:
    """Give ``op.input`` (with ``spatial`` trailing axes) a batch and a height; returns the axes it added."""
    added = []
    if len(shape(op.input)) == spatial + 1:
        op.input = emit(relax.op.expand_dims(op.input, 0))
        added.append(0)
    if spatial == 1:
        op.input = emit(relax.op.expand_dims(op.input, 2))
        added.append(2)
    return added


def from_image(result: relax.Var, added: list[int], emit: Emit) -> relax.Var:
    """Take the axes away again that ``as_image`` added."""
    return emit(relax.op.squeeze(result, added)) if added else result


def has_static_image(node: fx.Node) -> str | None:
    """Refuse an input whose height or width is dynamic."""
    if all(isinstance(size, int) for size in node_shape(node.args[0])[-2:]):
        return None
    return "needs a fixed height and width (only the batch may be dynamic)"


def wants_positions(node: fx.Node) -> str | None:
    """Refuse to give the second of two results, where the maxima are."""
    wants = any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users)
    return "only its values are supported, not their positions" if wants else None
