"""Symbolic sizes as ``.pt2`` files write them, checked to be arithmetic: ``sympy.sympify`` evaluates what it is given.

Allowed are sums, products, quotients, powers of symbols and the like, of numbers and symbols, in Python's syntax:
``2*s0 + 1`` and ``Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(1))``.
"""

import ast
import re
from typing import Any

_CHARACTERS = re.compile(r"[\w .,+\-*/%()<>=!']{1,10000}", re.ASCII)
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


def check_size(text: Any) -> None:
    """Raise ``ValueError`` for what is no arithmetic, or would take for ever."""
    try:
        if not isinstance(text, str) or not _CHARACTERS.fullmatch(text):
            raise ValueError
        _check_term(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{text!r} is no size") from None


def _check_term(term: ast.AST) -> None:
    if isinstance(term, ast.Constant):
        if not isinstance(term.value, int | float) or abs(term.value) >= _LARGEST:
            raise ValueError
    elif isinstance(term, ast.Name):
        if not re.fullmatch(r"[a-z]+[0-9]+", term.id):
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
    if not isinstance(option, ast.Constant) or not isinstance(option.value, int) or option.value > 64:
        raise ValueError


def _check_power(base: ast.AST, exponent: ast.AST) -> None:
    """A power of a symbol: of numbers, or of powers, a few characters would make more digits than memory holds."""
    literal = exponent.args[0] if isinstance(exponent, ast.Call) and len(exponent.args) == 1 else exponent
    if isinstance(literal, ast.UnaryOp) and isinstance(literal.op, ast.USub):
        literal = literal.operand
    symbol = isinstance(base, ast.Name) or (
        isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "Symbol"
    )
    if not symbol or not isinstance(literal, ast.Constant) or not isinstance(literal.value, int | float):
        raise ValueError
    if literal.value > _LARGEST_EXPONENT:
        raise ValueError
    _check_term(base)
    _check_term(exponent)
