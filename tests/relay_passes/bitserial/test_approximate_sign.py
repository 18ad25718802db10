import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ..operators import canonical, operators

IMAGE = torch.randn(1, 8, 6, 6)


class Layer(nn.Module):
    """A convolution of signs, with weights of ±1 or any."""

    def __init__(self, few: bool = True, behind: nn.Module | None = None) -> None:
        super().__init__()
        weight = torch.randn(4, 8, 3, 3)
        self.weight = nn.Parameter(torch.sign(weight) if few else weight)
        self.behind = behind or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(torch.sign(self.behind(x)), self.weight)


def test_zero_gets_a_sign_in_front_of_a_binary_layer_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"sign\(0\) is taken as \+1"):
        mod = canonical(Layer(), IMAGE)
    assert operators(mod) == ["greater_equal", "where", "nn.conv2d"]


KEPT: dict[str, nn.Module] = {
    "of a layer with many weights": Layer(few=False),
    "of what is often exactly zero": Layer(behind=nn.ReLU()),
}


@pytest.mark.parametrize("name", KEPT)
def test_other_signs_stay_as_pytorch_has_them(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mod = canonical(KEPT[name], IMAGE)
    assert "sign" in operators(mod)
