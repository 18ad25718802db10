"""The graph inside a ``.pt2`` file, checked to be data before PyTorch reads it.

PyTorch takes the JSON at its word. Names become Python source that it executes, symbolic sizes go through
``sympy.sympify``, which evaluates them, an operator is any attribute reachable from ``torch``, a tree's context may
name a module to import, and guards are code. So every string of the graph has to be of the form that stands at its
place, and what is not needed is left out.
"""

import ast
import json
import re
from collections.abc import Callable
from typing import Any

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
_FUNCTIONS = {
    "Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Equality", "Eq", "FloatTrueDiv", "FloorDiv",
    "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity", "IntTrueDiv", "Integer", "Le", "LessThan", "Lt", "Max", "Min",
    "Mod", "ModularIndexing", "Mul", "Ne", "Not", "Or", "PythonMod", "Rational", "RoundToInt", "StrictGreaterThan",
    "StrictLessThan", "ToFloat", "TruncToFloat", "TruncToInt", "Unequality", "Where", "ceiling", "floor",
}  # fmt: skip
_LITERALS = {"Symbol": re.compile(r"\w+"), "Float": re.compile(r"[-+]?[\d.]{1,40}(e[-+]?\d{1,3})?")}
_POWERS = {"Pow", "PowByNatural", "FloatPow"}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_LARGEST = 2**63
_LARGEST_EXPONENT = 16


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
    """Check a symbolic size: sums, products, quotients and the like of numbers and symbols, in Python's syntax."""
    try:
        if not isinstance(value, str):
            raise ValueError
        _check_term(ast.parse(value, mode="eval").body)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise UnsafeGraphError(f"{where} is {_shown(value)}, which is no size") from None
    return value


def _check_term(term: ast.AST) -> None:
    """Raise ``ValueError`` for what is no arithmetic, or would take for ever."""
    if isinstance(term, ast.Constant):
        if type(term.value) not in (int, float, bool) or abs(term.value) >= _LARGEST:
            raise ValueError
    elif isinstance(term, ast.Name):
        if not re.fullmatch(r"[a-z]+\d+", term.id):
            raise ValueError
    elif isinstance(term, ast.UnaryOp) and isinstance(term.op, ast.USub | ast.Not):
        _check_term(term.operand)
    elif isinstance(term, ast.BinOp) and isinstance(term.op, ast.Pow):
        _check_power(term.left, term.right)
    elif isinstance(term, ast.BinOp) and isinstance(term.op, _ARITHMETIC):
        _check_term(term.left)
        _check_term(term.right)
    elif isinstance(term, ast.Compare):
        for part in (term.left, *term.comparators):
            _check_term(part)
    elif isinstance(term, ast.Call) and isinstance(term.func, ast.Name):
        _check_call(term.func.id, term)
    else:
        raise ValueError


def _check_call(function: str, call: ast.Call) -> None:
    for word in call.keywords:
        _check_option(word.value)
    if function in _POWERS and len(call.args) == 2:
        _check_power(*call.args)
    elif function in _LITERALS and call.args:
        _check_literal(_LITERALS[function], call.args[0])
        for option in call.args[1:]:
            _check_option(option)
    elif function in _FUNCTIONS:
        for argument in call.args:
            _check_term(argument)
    else:
        raise ValueError


def _check_literal(form: re.Pattern[str], literal: ast.AST) -> None:
    """``Symbol('s0')`` and ``Float('1.5')``: the one place where strings stand in an expression."""
    if not isinstance(literal, ast.Constant) or not form.fullmatch(str(literal.value)):
        raise ValueError


def _check_option(option: ast.AST) -> None:
    """What is assumed of a symbol, or the bits of a float."""
    if not isinstance(option, ast.Constant) or type(option.value) not in (bool, int) or option.value > 64:
        raise ValueError


def _check_power(base: ast.AST, exponent: ast.AST) -> None:
    """A power of a symbol: of numbers, or of powers, a few characters would make more digits than memory holds."""
    literal = exponent.args[0] if isinstance(exponent, ast.Call) and len(exponent.args) == 1 else exponent
    if isinstance(literal, ast.UnaryOp) and isinstance(literal.op, ast.USub):
        literal = literal.operand
    symbol = isinstance(base, ast.Name) or (
        isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "Symbol"
    )
    if not symbol or not isinstance(literal, ast.Constant) or type(literal.value) not in (int, float):
        raise ValueError
    if literal.value > _LARGEST_EXPONENT:
        raise ValueError
    _check_term(base)
    _check_term(exponent)


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
