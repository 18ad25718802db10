import warnings

import pytest
import torch
from torch import nn

import tvm_fastconv as fc


class SignConv(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(torch.sign(x), torch.sign(self.weight))


@pytest.mark.parametrize(
    ("model", "x", "messages"),
    [
        (
            SignConv(40, 24, 3),
            torch.zeros(1, 40, 8, 8),
            ["sign(0) is taken as +1 (in front of conv2d)", "that sign(0) is +1 changes the outputs"],
        ),
        (nn.Conv2d(3, 4, 3).half(), torch.randn(1, 3, 8, 8).half(), ["the model computes in float16"]),
    ],
)
def test_a_warning_points_at_the_line_that_called(
    model: nn.Module, x: torch.Tensor, messages: list[str]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        fc.compile(model.eval(), x)
    ours = [warning for warning in caught if warning.category is UserWarning]
    assert [warning.filename for warning in ours] == [__file__] * len(messages)
    assert all(str(w.message).startswith(text) for w, text in zip(ours, messages, strict=True))
