"""Chains of convolutions that factorise one: what each convolution is, and which chains have a name.

=============  ==========================================================  ==========================================
method         chain                                                       source
=============  ==========================================================  ==========================================
``cp``         1×1, depthwise k×1 and 1×k (or k×k), 1×1                    Lebedev et al., arXiv:1412.6553
``tucker``     1×1, k×k, 1×1                                               Kim et al., arXiv:1511.06530
``spatial``    k×1, 1×k                                                    Jaderberg et al., arXiv:1405.3866
``fixed``      depthwise with the same kernels for all channels, 1×1       fixed stencils
``separable``  depthwise, 1×1; or 1×1 to more channels, depthwise, 1×1     Sandler et al., MobileNetV2, 1801.04381
=============  ==========================================================  ==========================================

The first three have nothing but convolutions and inner biases inside; in the others anything that works element by
element may stand between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One convolution of a chain.

    Attributes
    ----------
    weight : ndarray, (o, c / groups, kh, kw)
    groups : int
    bias : ndarray, (o,), optional
        Added in front of the next one. ``None`` behind the last one, and where more than a bias stands between.
    linear : bool
        Whether at most a bias stands between this one and the next.
    """

    weight: np.ndarray
    groups: int = 1
    bias: np.ndarray | None = None
    linear: bool = True

    @property
    def channels(self) -> int:
        """Of its input."""
        return self.weight.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """Of its result."""
        return len(self.weight)

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def pointwise(self) -> bool:
        """Whether it is 1×1 over all channels."""
        return self.kernel == (1, 1) and self.groups == 1

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel."""
        return self.groups > 1 and self.weight.shape[1] == 1

    @property
    def dense(self) -> bool:
        """Whether it is k×k over all channels."""
        return self.groups == 1 and max(self.kernel) > 1

    @property
    def shared_kernels(self) -> np.ndarray | None:
        """The kernels (multiplier, kh, kw) of a depthwise one with several that are the same for every channel."""
        if not self.depthwise or self.out_channels == self.channels:
            return None
        kernels = self.weight.reshape(self.channels, -1, *self.kernel)
        return kernels[0] if kernels.any() and (kernels == kernels[0]).all() else None


Factors = Sequence[Factor]


class Pattern(NamedTuple):
    """A chain that has a name.

    Attributes
    ----------
    method, op : str
        The structure, and the operator, as reports call them.
    length : int
        Convolutions.
    matches : callable
        Whether so many convolutions, in the order in which they run, are such a chain.
    """

    method: str
    op: str
    length: int
    matches: Callable[[Factors], bool]


def is_linear(factors: Factors) -> bool:
    """Whether nothing but biases stands between them."""
    return all(factor.linear for factor in factors[:-1])


def _is_cp(factors: Factors) -> bool:
    ends, middle = (factors[0], factors[-1]), factors[1:-1]
    return is_linear(factors) and all(f.pointwise for f in ends) and all(f.depthwise for f in middle)


def _is_tucker(factors: Factors) -> bool:
    first, middle, last = factors
    return is_linear(factors) and first.pointwise and middle.dense and last.pointwise


def _is_inverted_bottleneck(factors: Factors) -> bool:
    first, middle, last = factors
    expands = first.out_channels > max(first.channels, last.out_channels)
    return first.pointwise and middle.depthwise and last.pointwise and expands


def _is_spatial(factors: Factors) -> bool:
    kernels = [factor.kernel for factor in factors]
    return is_linear(factors) and any(
        a[1] == b[0] == 1 < min(a[0], b[1]) for a, b in (kernels, kernels[::-1])
    )


def _is_fixed(factors: Factors) -> bool:
    return factors[0].shared_kernels is not None and factors[1].pointwise


def _is_depthwise_separable(factors: Factors) -> bool:
    return factors[0].depthwise and factors[1].pointwise


PATTERNS = (
    Pattern("cp", "cp_conv2d", 4, _is_cp),
    Pattern("cp", "cp_conv2d", 3, _is_cp),
    Pattern("tucker", "tucker_conv2d", 3, _is_tucker),
    Pattern("separable", "inverted_bottleneck", 3, _is_inverted_bottleneck),
    Pattern("spatial", "spatial_conv2d", 2, _is_spatial),
    Pattern("fixed", "fixed_stencil_conv2d", 2, _is_fixed),
    Pattern("separable", "separable_conv2d", 2, _is_depthwise_separable),
)
"""A convolution belongs to the first that takes it."""
