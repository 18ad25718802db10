"""Separable convolutions to train: chains of small ones in place of one, without anything between unless it says so.

All take ``(N, C, H, W)`` to ``(N, O, H', W')`` float32, and the sizes of `torch.nn.Conv2d` with one square kernel. The
padding and the stride lie on the convolutions that are wider than a pixel. Only the last has a bias, since what a
convolution behind it pads must be 0: a linear chain is then exactly one dense convolution.
"""

from collections import OrderedDict

from torch import nn


class SpatialConv2d(nn.Sequential):
    """k×1 convolution to all outputs, then 1×k among them (Jaderberg et al., arXiv:1405.3866, with full rank).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias
        Of the convolution that it takes the place of.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        k, s, p = kernel_size, stride, padding
        column = nn.Conv2d(in_channels, out_channels, (k, 1), (s, 1), (p, 0), bias=False)
        row = nn.Conv2d(out_channels, out_channels, (1, k), (1, s), (0, p), bias=bias)
        super().__init__(OrderedDict(column=column, row=row))


class CPConv2d(nn.Sequential):
    """1×1, depthwise k×1, depthwise 1×k, 1×1: a kernel of this CP rank (Lebedev et al., arXiv:1412.6553, section 3).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias
        Of the convolution that it takes the place of.
    rank
        Channels between the two 1×1 convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        rank: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        k, s, p = kernel_size, stride, padding
        first = nn.Conv2d(in_channels, rank, 1, bias=False)
        column = nn.Conv2d(rank, rank, (k, 1), (s, 1), (p, 0), groups=rank, bias=False)
        row = nn.Conv2d(rank, rank, (1, k), (1, s), (0, p), groups=rank, bias=False)
        last = nn.Conv2d(rank, out_channels, 1, bias=bias)
        super().__init__(OrderedDict(first=first, column=column, row=row, last=last))


class DepthwiseSeparableConv2d(nn.Sequential):
    """k×k depthwise convolution, then 1×1 (Howard et al., MobileNets, arXiv:1704.04861, section 3.1).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias
        Of the convolution that it takes the place of.
    activation
        Whether batch norm and ReLU stand between the two, as in MobileNet; without them the chain is linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        activation: bool = True,
    ) -> None:
        depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False
        )
        parts: OrderedDict[str, nn.Module] = OrderedDict(depthwise=depthwise)
        if activation:
            parts.update(norm=nn.BatchNorm2d(in_channels), relu=nn.ReLU())
        parts["pointwise"] = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        super().__init__(parts)
