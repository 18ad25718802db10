"""Vertical counters: words that hold one binary digit each of 32 counts, added and compared by operations on bits.

A network of carry-save adders, after Harley and Seal: Warren, Hacker's Delight, second edition, section 5-1.
"""

import itertools
import operator
from collections.abc import Callable

import tvm
from tvm import te

from .window import stage

Words = Callable[..., tvm.ir.Expr]
"""A word for every output word: a function of batch, row, and place in the row, as a tensor is."""


def stage_maker(shape: tuple[tvm.ir.Expr, ...]) -> Callable[[Words], te.Tensor]:
    """Makes each part of a large expression a stage of its own: written out, it would grow exponentially."""
    numbers = itertools.count()

    def named(words: Words) -> te.Tensor:
        name = f"part{next(numbers)}"
        return te.compute(shape, lambda *at: words(*at), name=name, attrs=stage(name))

    return named


def count_bits(bits: list[Words], named: Callable[[Words], te.Tensor]) -> list[Words]:
    """Binary digits, lowest first, of how many of ``bits`` are 1, in each position of a word.

    A full adder takes three words of one digit to one of it and one of the next, so that n words need fewer than n.
    """
    digits, column = [], bits
    while column:
        carries: list[Words] = []
        while len(column) > 1:
            *column, a, b = column
            half, both = named(_each(operator.xor, a, b)), _each(operator.and_, a, b)
            if column:
                *column, c = column
                both = _each(operator.or_, both, _each(operator.and_, half, c))
                half = named(_each(operator.xor, half, c))
            carries.append(named(both))
            column.append(half)
        digits += column
        column = carries
    return digits


def below(digits: list[Words], limits: list[Words], named: Callable[[Words], te.Tensor]) -> Words:
    """Whether the number of ``digits`` is below that of ``limits``, which has one more at most; lowest first.

    A digit decides where no higher one differs.
    """
    less: Words = named(_each(lambda d, m: ~d & m, digits[0], limits[0]))
    for digit, limit in zip(digits[1:], limits[1:], strict=False):
        less = named(_each(lambda d, m, lower: (~d & (m | lower)) | (m & lower), digit, limit, less))
    return _each(operator.or_, limits[-1], less) if len(limits) > len(digits) else less


def _each(operation: Callable[..., tvm.ir.Expr], *operands: Words) -> Words:
    """``operation`` on the words of ``operands``, place by place."""
    return lambda *at: operation(*(operand(*at) for operand in operands))
