"""The graph inside a ``.pt2`` file, checked to be data before PyTorch reads it.

PyTorch takes the JSON at its word. Names become Python source that it executes, symbolic sizes go through
``sympy.sympify``, which evaluates them, an operator is any attribute reachable from ``torch``, a tree's context may
name a module to import, and guards are code. So every string of the graph has to be of the form that stands at its
place, and what is not needed is left out.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from .pt2_sizes import check_size

_NAME = re.compile(r"[\w.]*")
_LAYER = re.compile(r"[^\x00-\x1f\x7f\"'\\`{}$]*")  # of modules and parameters, which users may name freely
_TEXT = re.compile(r"[\w.+<=-]*")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|while_loop|map_impl|scan)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\._?sym_\w+|math\.(trunc|ceil|floor|sqrt)"
)
_OUTSIDE = (
    "torch.ops.aten.from_file.",
    "torch.ops.aten.save.",
    "torch.ops.aten._print.",
    "torch.ops.aten.warn.",
)
"""Operators that reach beyond the tensors: files, the terminal."""

_TREES = (
    "builtins.tuple",
    "builtins.list",
    "builtins.dict",
    "collections.OrderedDict",
    "collections.namedtuple",
)


class UnsafeGraphError(ValueError):
    """A string of the graph is not of the form that is data and nothing else at its place."""


def checked_graph(text: bytes) -> bytes:
    """Return the JSON of an exported program with everything checked, and left out what compiling does not need.

    Raises
    ------
    UnsafeGraphError
        A string could be more than a name, an operator, a size, a tree of inputs or a value. Names the field.
    ValueError, RecursionError
        It is no JSON.
    """
    program = json.loads(text)
    if not isinstance(program, dict):
        raise UnsafeGraphError("it is no JSON object")
    return json.dumps(_record(program, "")).encode()


def checked_tensors(text: bytes) -> dict[str, Any]:
    """Return the table of stored tensors, name to file, dtype and layout; raises as `checked_graph` does."""
    table = json.loads(text)
    if not isinstance(table, dict) or not isinstance(table.get("config"), dict):
        raise UnsafeGraphError("it is no table of tensors")
    return {"config": _named(table["config"], "config")}


def _record(record: dict[str, Any], where: str, values: bool = False) -> dict[str, Any]:
    """Check the fields of an object; ``values`` where strings are arguments of an operator, which are never code."""
    return {
        _matching(_NAME, key, where): _field(key, value, f"{where}.{key}".lstrip("."), values)
        for key, value in record.items()
    }


def _field(key: str, value: Any, where: str, values: bool) -> Any:
    if key in _RULES:
        return _RULES[key](value, where)
    if key == "nodes" and isinstance(value, list):
        return [_node(node, f"{where}[{i}]") for i, node in enumerate(value)]
    if values and key in ("as_string", "as_strings"):
        return value
    return _any(value, where, values and key != "graph")


def _any(value: Any, where: str, values: bool = False) -> Any:
    if isinstance(value, dict):
        return _record(value, where, values)
    if isinstance(value, list):
        return [_any(item, f"{where}[{i}]", values) for i, item in enumerate(value)]
    if isinstance(value, str) and value != "-Infinity":
        return _matching(_NAME, value, where)
    return value


def _node(node: Any, where: str) -> Any:
    if not isinstance(node, dict):
        raise UnsafeGraphError(f"{where} is no object")
    return {
        _matching(_NAME, key, where): _field(key, value, f"{where}.{key}", values=key == "inputs")
        for key, value in node.items()
    }


def _matching(pattern: re.Pattern[str], value: Any, where: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or any(map(_is_special, value.split("."))):
        raise UnsafeGraphError(f"{where or 'a key'} is {_shown(value)}, which is no name")
    return value


def _is_special(name: str) -> bool:
    """Whether it is an attribute such as ``__class__``, through which a name would reach what is no part of a model."""
    return name.startswith("__") and name.endswith("__")


def _named(value: Any, where: str) -> dict[str, Any]:
    """Check an object whose keys are names of values, layers or symbols and not of fields."""
    if not isinstance(value, dict):
        raise UnsafeGraphError(f"{where} is no object")
    return {_matching(_LAYER, key, where): _any(item, f"{where}.{key}") for key, item in value.items()}


def _operator(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _OPERATOR.fullmatch(value) or value.startswith(_OUTSIDE):
        raise UnsafeGraphError(
            f"{where} is {_shown(value)}; allowed: operators of torch.ops.aten, prims and quantized_decomposed, "
            "arithmetic of sizes, and branches and loops of these"
        )
    return value


def _metadata(value: Any, where: str) -> dict[str, str]:
    """Keep what layers are named by; the rest is for tools that read a program."""
    stack = value.get("nn_module_stack") if isinstance(value, dict) else None
    return {"nn_module_stack": stack} if isinstance(stack, str) else {}


def _calls(value: Any, where: str) -> list[Any]:
    """Keep the signature of the model itself; those of modules inside it serve to take it apart again."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UnsafeGraphError(f"{where} is no list of objects")
    return [_record(entry, where) for entry in value if entry.get("fqn") == ""]


def _tree(value: Any, where: str) -> str:
    """Check how inputs or outputs are nested: PyTorch's containers only, none of which names a class or a module."""
    try:
        protocol, tree = json.loads(value)
    except (TypeError, ValueError) as error:
        raise UnsafeGraphError(f"{where} is {_shown(value)}, which is no tree of values") from error
    return json.dumps([protocol, _subtree(tree, where)])


def _subtree(tree: Any, where: str) -> dict[str, Any]:
    fields = tree if isinstance(tree, dict) else {}
    kind, context, children = (fields.get(key) for key in ("type", "context", "children_spec"))
    if not isinstance(children, list) or (kind is not None and kind not in _TREES):
        raise UnsafeGraphError(f"{where} holds {_shown(kind)}; allowed: {', '.join(_TREES)}")
    if kind is not None and not _is_plain_context(context):
        raise UnsafeGraphError(f"{where} holds the keys {_shown(context)}; allowed: names and numbers")
    return {"type": kind, "context": context, "children_spec": [_subtree(child, where) for child in children]}


def _is_plain_context(context: Any) -> bool:
    """Whether it is ``null``, a list of keys, or the name of a tuple type that is registered in this process."""
    if not isinstance(context, str):
        return False
    try:
        keys = json.loads(context)
    except ValueError:
        return bool(_NAME.fullmatch(context))
    keys = keys if isinstance(keys, list) else [keys]
    return all(key is None or isinstance(key, str | int | float) for key in keys)


def _expression(value: Any, where: str) -> str:
    try:
        check_size(value)
    except ValueError:
        raise UnsafeGraphError(f"{where} is {_shown(value)}, which is no size") from None
    return str(value)


def _refused(value: Any, where: str) -> Any:
    if value:
        raise UnsafeGraphError(f"{where} is an object of a class of its own; allowed: tensors and numbers")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_RULES: dict[str, Callable[[Any, str], Any]] = {
    "target": _operator,
    "as_operator": _operator,
    "expr_str": _expression,
    "in_spec": _tree,
    "out_spec": _tree,
    "metadata": _metadata,
    "module_call_graph": _calls,
    "guards_code": lambda value, where: [],
    "treespec_namedtuple_fields": lambda value, where: {},
    "torch_version": lambda value, where: _matching(_TEXT, value, where),
    "as_custom_obj": _refused,
    "custom_obj": _refused,
    "custom_obj_values": _refused,
    **dict.fromkeys(
        ("parameter_name", "buffer_name", "tensor_constant_name", "user_input_name"),
        lambda value, where: _matching(_LAYER, value, where),
    ),
    **dict.fromkeys(
        (
            "tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values", "range_constraints",
            "opset_version", "as_string_to_argument",
        ),
        _named,
    ),
}  # fmt: skip
"""What has to stand in a field, by its name in PyTorch's schema."""
