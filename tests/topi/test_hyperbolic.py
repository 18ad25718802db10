"""Activations and functions that cancel where their results are small, against PyTorch in float64.

A row is compared with its own largest value: rows of tiny results tell whether bits were lost.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tvm_fastconv as fc

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh, "atanh": torch.atanh, "sinh": torch.sinh, "cosh": torch.cosh, "expm1": torch.expm1,
    "log1p": torch.log1p, "softplus": F.softplus, "steep softplus": lambda x: F.softplus(x, 3.0, 5.0),
    "log_sigmoid": F.logsigmoid, "mish": F.mish, "elu": F.elu, "selu": F.selu, "celu": lambda x: F.celu(x, 1.3),
    "std": lambda x: x.std(1, keepdim=True), "var": lambda x: x.var(1, keepdim=True),
}  # fmt: skip


class Apply(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def rows() -> torch.Tensor:
    """Rows of 65 values (vectors and a rest): around numbers large and small, with a large and a small spread."""
    rng = np.random.default_rng(0)
    around = [(0, 1e-30), (0, 1e-12), (0, 1e-6), (0, 1e-3), (0, 0.3), (0, 1), (0, 1e15), (0, 1e30), (0, 1e19)]
    around += [(m, s) for m in (1, 5, 20, 60, 88.9) for s in (1e-6, 1e-3, 0.1)]
    around += [(-m, s) for m, s in around if m]
    values = [mean + spread * rng.standard_normal(65) for mean, spread in around]
    return torch.tensor(np.stack(values), dtype=torch.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_keep_the_bits_of_small_results(name: str) -> None:
    x, function = rows(), FUNCTIONS[name]
    got = fc.compile(Apply(function).eval(), x, verify=False)(x)
    got, want = torch.as_tensor(got).double(), function(x.double())
    known = want.abs() < torch.finfo(torch.float32).max
    largest = torch.where(known, want.abs(), 0).amax(1, keepdim=True).clamp(min=1e-37)
    off = torch.where(known, (got - want).abs() / largest, 0)
    # 2e-6: a few roundings, and what rounding x·tanh(...)'s argument at -60 is worth; PyTorch's own float32 is at 9e-7
    assert float(off.max()) < 2e-6
    assert bool(torch.isnan(got[torch.isnan(want)]).all())
