"""Networks for 32×32 images and 100 classes, with their 3×3 convolutions in four forms: `train.models.all_cnn`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from tvm_fastconv.train.compress import compress_
from tvm_fastconv.train.models.all_cnn import FORMS, PLANS, AllCnn, form_methods

from .networks import SEED, settle_batch_norm

CLASSES = 100
SIZE = 32
"""Height and width of the images."""


@dataclass(frozen=True)
class SeparableNetwork:
    """One of `PLANS` in one of `FORMS`."""

    plan: str
    form: str

    @property
    def name(self) -> str:
        """For example ``all_cnn_c sep``."""
        return f"{self.plan} {self.form}"

    def build(self) -> nn.Module:
        """``(N, 3, 32, 32)`` to ``(N, 100)``, with first weights."""
        model = AllCnn(CLASSES, plan=self.plan)
        compress_(model, form_methods(self.plan, self.form), fresh=True)
        return model

    def make(self, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """Build it in eval mode, with settled batch norms and an input: the same ones every time."""
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            module = self.build()
            settle_batch_norm(module, torch.randn(2, 3, SIZE, SIZE))
            return module.eval(), (torch.randn(batch, 3, SIZE, SIZE),)


SEPARABLE_NETWORKS = tuple(SeparableNetwork(plan, form) for plan in PLANS for form in FORMS)
