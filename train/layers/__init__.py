"""Layers to train that drop in for `torch.nn.Conv2d` and `torch.nn.Linear`. PyTorch only: neither TVM nor Lightning."""

from .binary_conv2d import BinaryConv2d
from .binary_linear import BinaryLinear
from .cp_conv2d import CPConv2d
from .depthwise_separable_conv2d import DepthwiseSeparableConv2d
from .fixed_stencil_conv2d import FixedStencilConv2d
from .lookup_conv2d import LookupConv2d
from .lookup_linear import LookupLinear
from .sign_quantizers import RPReLU
from .spatial_separable_conv2d import SpatialSeparableConv2d
from .tucker_conv2d import TuckerConv2d

__all__ = [
    "BinaryConv2d",
    "BinaryLinear",
    "CPConv2d",
    "DepthwiseSeparableConv2d",
    "FixedStencilConv2d",
    "LookupConv2d",
    "LookupLinear",
    "RPReLU",
    "SpatialSeparableConv2d",
    "TuckerConv2d",
]
