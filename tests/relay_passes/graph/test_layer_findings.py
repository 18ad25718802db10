"""What is noted of a layer belongs to the layer, not to what else happens in its module."""

import torch
from torch.nn import functional as F

import tvm_fastconv as fc

SKYLAKE = "x86_64-linux-gnu -mcpu=skylake"


class Smaller(torch.nn.Module):
    """A resize, which is a product with a sparse matrix and gets a finding, and a pool, under one name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True)
        return F.avg_pool2d(resized, 2)


def test_a_pool_beside_a_layer_without_a_module_is_no_layer() -> None:
    model = torch.nn.Sequential(Smaller()).eval()
    compiled = fc.compile(model, torch.randn(1, 8, 9, 9), target=SKYLAKE, verify=False)
    assert {(layer.name, layer.method) for layer in compiled.layers} == {("0", "lookup")}
