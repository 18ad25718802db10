"""The chains of a model, and layers that they are made of."""

import torch
import tvm
from torch import nn

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.separable.separable_chains import Chain, separable_chains
from tvm_fastconv.topi.machines import machine_of

MACHINE = machine_of(tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"}))
X = torch.randn(1, 16, 12, 12, generator=torch.Generator().manual_seed(0))


def chains_of(model: nn.Module, x: torch.Tensor) -> list[Chain]:
    mod = tvm.IRModule({"main": import_model(model.eval(), (x,)).mod["main"]})
    mod = tvm.transform.Sequential([*pipeline.simplify(), *pipeline.canonicalize(MACHINE)])(mod)
    return separable_chains(mod["main"])


def depthwise(
    channels: int, kernel: int | tuple[int, int] = 3, multiplier: int = 1, **kwargs: object
) -> nn.Conv2d:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (size[0] // 2, size[1] // 2)
    return nn.Conv2d(
        channels, channels * multiplier, size, **({"padding": padding, "groups": channels} | kwargs)
    )
