"""Compiled operators on PyTorch tensors, for eager models and training loops: no copy, no graph, no file."""

from .conv2d import xnor_conv2d
from .gemm import xnor_gemm

__all__ = ["xnor_conv2d", "xnor_gemm"]
