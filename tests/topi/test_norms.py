"""Norms, also where the mean is much larger than the deviation, against PyTorch in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.topi.norms import norm_reference

from ..close import assert_close

IMAGE, ROWS = (2, 6, 9, 11), (3, 5, 24)
NORMS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "group": (nn.GroupNorm(3, 6), IMAGE),
    "group of all": (nn.GroupNorm(1, 6), IMAGE),
    "instance": (nn.InstanceNorm2d(6, affine=True), IMAGE),
    "instance of rows": (nn.InstanceNorm1d(5), ROWS),
    "layer": (nn.LayerNorm(24), ROWS),
    "layer of planes": (nn.LayerNorm((9, 11)), IMAGE),
    "layer of everything": (nn.LayerNorm(ROWS), ROWS),
}  # fmt: skip
SCALES = {"centred": (0.0, 1.0), "an image of bytes": (120.0, 5.0), "hardly any": (1000.0, 0.01)}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NORMS)
def test_norms_are_exact_however_large_the_mean_is(name: str, scale: str) -> None:
    model, shape = NORMS[name]
    mean, deviation = SCALES[scale]
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    x = mean + deviation * torch.randn(shape)
    got = fc.compile(model.eval(), x, verify=False)(x)
    want = copy.deepcopy(model).double()(x.double())
    assert_close(got, want, 1e-6)  # differences from the rough mean are exact: a few roundings of the result


def test_the_reference_is_pytorchs() -> None:
    x = (7 + torch.randn(IMAGE)).numpy()
    want = nn.functional.layer_norm(torch.from_numpy(x).double(), IMAGE[2:], eps=1e-3).numpy()
    assert_close(norm_reference(x, (2, 3), 1e-3), want.astype(np.float32), 1e-6)  # one rounding to float32
