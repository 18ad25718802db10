"""Networks of convolutions alone: All-CNN-C and two relatives that suit separable convolutions.

Batch norm and ReLU follow every convolution. Planes are padded to keep their size before the stride.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from tvm_fastconv.configs import CP, Dense, DepthwiseSeparable, Method, SpatialSeparable

from .blocks import ConvBlock


@dataclass(frozen=True)
class Layer:
    """A convolution in a plan; ``outputs`` of ``None`` are the classes. A ``separable`` one is so in every form."""

    outputs: int | None
    kernel: int = 3
    stride: int = 1
    separable: bool = False


PLANS: dict[str, tuple[Layer, ...]] = {
    "all_cnn_c": (
        *(Layer(96), Layer(96), Layer(96, stride=2)),
        *(Layer(192), Layer(192), Layer(192, stride=2)),
        *(Layer(192), Layer(192, kernel=1), Layer(None, kernel=1)),
    ),
    "wider": (
        *(Layer(192), Layer(96, stride=2)),
        *(Layer(384), Layer(128, stride=2)),
        *(Layer(256), Layer(None, kernel=1)),
    ),
    "adequately_designed": (
        *(Layer(96), Layer(96), Layer(96, stride=2)),
        *(Layer(256, separable=True), Layer(192, stride=2)),
        *(Layer(256, separable=True), Layer(None, kernel=1)),
    ),
}
"""Name to layers; the mean over the plane stands behind them. The first is Springenberg et al., arXiv:1412.6806."""


class AllCnn(nn.Sequential):
    """``block1`` and on, each a `ConvBlock`, then the mean: images ``(N, channels, H, W)`` to scores ``(N, classes)``.

    Parameters
    ----------
    classes, channels
        Of the labels and the images.
    plan
        One of `PLANS`.
    width
        Of all layers but the last, in multiples of the plan's.
    activation
        Behind all layers but the last two, where it is ReLU; one of `blocks.ACTIVATIONS`.
    stem_stride
        Of the first layer, 2 for a quarter of the work.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 3,
        plan: str = "all_cnn_c",
        width: float = 1,
        activation: str = "relu",
        stem_stride: int = 1,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, layer in enumerate(PLANS[plan], 1):
            outputs = classes if layer.outputs is None else max(1, round(width * layer.outputs))
            k = layer.kernel
            stride = stem_stride if number == 1 else layer.stride
            conv = nn.Conv2d(channels, outputs, k, stride, k // 2, bias=False)
            near_end = number > len(PLANS[plan]) - 2
            parts[f"block{number}"] = ConvBlock(channels, outputs, conv, "relu" if near_end else activation)
            channels = outputs
        parts.update(average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        super().__init__(parts)


def _cp(layer: Layer, channels: int) -> Method:
    return CP(rank=max(1, min(channels, layer.outputs or channels) // 2))


FORMS: dict[str, Callable[[Layer, int], Method]] = {
    "std": lambda _layer, _channels: Dense(),
    "fac": lambda _layer, _channels: SpatialSeparable(),
    "sep": lambda _layer, _channels: DepthwiseSeparable(),
    "cp": _cp,
}
"""Name to what a 3×3 convolution becomes, by its plan and its input channels; CP has half of the smaller of both."""


def form_methods(plan: str, form: str, width: float = 1) -> dict[str, Method]:
    """Methods for a network of ``plan`` in one of `FORMS`, which its first convolution does not take."""
    methods: dict[str, Method] = {}
    channels = 0
    for number, layer in enumerate(PLANS[plan], 1):
        scaled = replace(
            layer, outputs=None if layer.outputs is None else max(1, round(width * layer.outputs))
        )
        if number > 1 and layer.kernel > 1:
            methods[f"block{number}.conv"] = FORMS["sep" if layer.separable else form](scaled, channels)
        channels = scaled.outputs or 0
    return methods
