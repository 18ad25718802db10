"""Chains of convolutions multiplied out to the one that they factorise, where that is exact."""

from dataclasses import dataclass

import numpy as np

from tvm_fastconv.topi.conv2d import Conv2dParams

from .separable_chains import Chain


def reconstructed(chain: Chain) -> tuple[np.ndarray, np.ndarray | None, Conv2dParams] | None:
    """The one dense convolution that equals a chain: weight (o, c, kh, kw), bias (o,) and geometry.

    ``None`` where that would not be exact: something else than a bias stands between, a stage pads what is 0 in no
    border of the one dense plane, or two stages have taps along the same axis.
    """
    if not chain.linear:
        return None
    weight, bias = np.eye(chain.stages[0].channels)[:, :, None, None], np.zeros(chain.stages[0].channels)
    axes = [_Axis(), _Axis()]
    for stage in chain.stages:
        params = stage.params
        if any(params.padding) and bias.any():
            return None
        for i, axis in enumerate(axes):
            at = (
                params.kernel[i],
                params.stride[i],
                params.dilation[i],
                params.padding[i],
                params.padding[i + 2],
            )
            if not axis.extend(*at):
                return None
        full = _without_groups(stage.weight, params.groups).astype(np.float64)
        weight = np.einsum("oikl,icmn->ockmln", full, weight, optimize=True)
        weight = weight.reshape(*weight.shape[:2], weight.shape[2] * weight.shape[3], -1)
        bias = full.sum(axis=(2, 3)) @ bias + (0.0 if stage.bias is None else stage.bias)
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float32)
    # Products beyond float32 where the chain's own values are not.
    if not np.isfinite(rounded).all() or (np.abs(weight[weight != 0]) < np.finfo(np.float32).tiny).any():
        return None
    rows, columns = axes
    params = Conv2dParams(
        kernel=(rows.kernel, columns.kernel),
        out_channels=len(weight),
        stride=(rows.stride, columns.stride),
        padding=(rows.before, columns.before, rows.after, columns.after),
        dilation=(rows.dilation, columns.dilation),
    )
    return rounded, bias.astype(np.float32) if bias.any() else None, params


@dataclass
class _Axis:
    """The geometry of stages so far along one axis: taps come from one stage, and only what is 0 is padded."""

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    def extend(self, kernel: int, stride: int, dilation: int, before: int, after: int) -> bool:
        """Append a stage; false where the result is no convolution of this form."""
        plain = self.kernel == self.stride == 1
        if not plain and (kernel > 1 or before or after):
            return False
        if kernel > 1:
            self.kernel, self.dilation = kernel, dilation
        self.stride *= stride
        self.before += before
        self.after += after
        return min(before, after) >= 0


def _without_groups(weight: np.ndarray, groups: int) -> np.ndarray:
    """(o, c / groups, kh, kw) → (o, c, kh, kw), with zeros between the groups."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full
