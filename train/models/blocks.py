"""What the networks here are made of."""

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "hardtanh": nn.Hardtanh,
    "none": nn.Identity,
}
"""What may stand behind a batch norm. In front of a convolution that takes signs, ``none`` leaves it most to see."""


class ConvBlock(nn.Sequential):
    """``conv``, ``norm``, ``activation``: ``(N, inputs, H, W)`` to ``(N, outputs, H', W')``.

    Parameters
    ----------
    inputs, outputs
        Channels.
    conv
        By default 3×3, without bias, on planes that keep their size.
    activation
        One of `ACTIVATIONS`.
    """

    def __init__(
        self, inputs: int, outputs: int, conv: nn.Module | None = None, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]()
