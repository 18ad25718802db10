"""Rows of element-wise operators: fused as far as their expression stays small, and right."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc

from ...close import assert_close


class InARow(nn.Module):
    """``count`` times ``function`` between two convolutions."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], count: int) -> None:
        super().__init__()
        self.conv, self.last, self.function, self.count = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 4, 3),
            function,
            count,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        for _ in range(self.count):
            x = self.function(x)
        return self.last(x)


def _functions(function: Callable[[torch.Tensor], torch.Tensor], count: int) -> int:
    model, x = InARow(function, count).eval(), torch.randn(1, 3, 9, 9)
    compiled = fc.compile(model, x)
    assert_close(compiled(x), model(x), 1e-5)  # the roundings of `count` operators
    return len(compiled.manifest.calls)


@pytest.mark.parametrize("function", [torch.tanh, F.silu, F.elu, F.mish])
def test_what_reads_its_operand_often_is_stored_before_expressions_explode(function: Callable) -> None:
    alone, many = _functions(function, 1), _functions(function, 8)
    assert alone < many <= 4 * 8  # an ELU is up to four functions


def test_long_rows_of_small_operators_are_cut_too() -> None:
    alone, many = (_functions(lambda x: (x - 0.01).abs(), count) for count in (1, 100))
    assert alone < many < alone + 10


def test_what_stays_small_is_one_function() -> None:
    assert _functions(lambda x: F.relu(x) + 1, 3) == _functions(F.relu, 1)


def test_values_read_twice_again_and_again_are_looked_at_once() -> None:
    assert _functions(lambda x: x * torch.sigmoid(x) + 0.1 * x, 24) > 1
