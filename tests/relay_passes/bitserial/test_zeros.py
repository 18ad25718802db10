from collections.abc import Callable

import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional as F
from tvm import relax

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.bitserial.zeros import never_negative, often_zero
from tvm_fastconv.relay_passes.graph.rewrite import CallRewriter, rewrite_calls


class _Sign(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(self.function(x))


def _last_operand(
    function: Callable[[torch.Tensor], torch.Tensor], ask: Callable[[CallRewriter, relax.Expr], bool]
) -> bool:
    answers: list[bool] = []
    imported = import_model(_Sign(function).eval(), (torch.randn(1, 8, 4, 4),))
    mod = tvm.transform.Sequential(pipeline.simplify())(imported.mod)
    rewrite_calls(mod, {"sign": lambda rewriter, call: answers.append(ask(rewriter, call.args[0]))})
    return answers[-1]


NEVER_NEGATIVE = {
    "clip above": lambda x: torch.clamp(x, 0.5, 2),
    "clip of a relu": lambda x: torch.clamp(F.relu(x), -1, 1),
    "pad": lambda x: F.pad(F.relu(x), (1, 1, 1, 1), value=0.5),
    "maximum": lambda x: torch.maximum(x, x.abs()),
    "where": lambda x: torch.where(x > 1, x.abs(), 2.0),
    "rounded": lambda x: torch.round(torch.clamp(x, 0, 1) * 3) / 3,
    "comparison": lambda x: (x > 0.5).float(),
    "chunk": lambda x: F.relu(x).chunk(2, 1)[0],
}
NEGATIVE = {
    "border below": lambda x: F.pad(F.relu(x), (1, 1, 1, 1), value=-1.0),
    "clip below": lambda x: torch.clamp(F.relu(x), max=-1.0),
    "clip to below": lambda x: torch.clamp(x, -2.0, -1.0),
    "one branch": lambda x: torch.where(x > 1, x.abs(), -1.0),
    "one summand": lambda x: F.relu(x) + x,
    "integer": lambda x: x.int().float(),
}
OFTEN_ZERO = {
    "border of zeros": lambda x: F.pad(x, (0, 0, 0, 0, 4, 4)),
    "border around a relu": lambda x: F.pad(F.relu(x), (1, 1, 1, 1), value=-1.0),
    "threshold": lambda x: F.threshold(x, 0.5, 0.0),
    "hardshrink": lambda x: F.hardshrink(x, 0.5),
    "softshrink": lambda x: F.softshrink(x, 0.5),
    "masked": lambda x: x.masked_fill(x.abs() < 0.5, 0.0),
    "mask times": lambda x: x * (x.abs() > 0.5).float(),
    "constant mask": lambda x: x * torch.tensor([1.0, 0.0]).repeat(4).reshape(1, 8, 1, 1),
    "rounded": lambda x: torch.round(torch.clamp(x, -1, 1)),
    "truncated": lambda x: x.int().float(),
    "difference": lambda x: F.relu(x) - F.relu(-x - 0.5),
    "twice the same half": lambda x: F.relu(x) + 0.1 * F.relu(x),
    "PReLU of a relu": lambda x: F.prelu(F.relu(x), torch.tensor([0.25])),
    "odd function": lambda x: torch.tanh(-F.relu(x)),
    "clip around 0": lambda x: torch.clamp(F.relu(x), -1, 1),
    "chunk": lambda x: torch.round(x).chunk(2, 1)[0],
}
SELDOM_ZERO = {
    "clip": lambda x: torch.clamp(x, -1, 1),
    "shifted": lambda x: torch.round(x) - 0.5,
    "one summand": lambda x: F.relu(x) + x,
    "clip above 0": lambda x: torch.clamp(F.relu(x), 0.5, 1),
    "scaled": lambda x: x * 0.5,
    "border of ones": lambda x: F.pad(x, (1, 1, 1, 1), value=1.0),
    "both halves": lambda x: F.relu(x) - 0.1 * F.relu(-x),
    "both halves, clipped": lambda x: x.clamp(min=0) + 0.2 * x.clamp(max=0),
    "PReLU": lambda x: F.prelu(x, torch.tensor([0.25])),
    "branches": lambda x: torch.where(x > 0, x, 0.1 * x),
}


@pytest.mark.parametrize("name", [*NEVER_NEGATIVE, *NEGATIVE])
def test_never_negative(name: str) -> None:
    assert _last_operand((NEVER_NEGATIVE | NEGATIVE)[name], never_negative) == (name in NEVER_NEGATIVE)


@pytest.mark.parametrize("name", OFTEN_ZERO)
def test_often_zero(name: str) -> None:
    assert _last_operand(OFTEN_ZERO[name], often_zero)


@pytest.mark.parametrize("name", SELDOM_ZERO)
def test_seldom_zero(name: str) -> None:
    assert not _last_operand(SELDOM_ZERO[name], often_zero)
