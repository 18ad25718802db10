"""Optimizers by name."""

from typing import Any

import torch
from torch import nn

from ..layers.multi_bit_quantizers import LearnedSteps
from .settings import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """What ``settings`` ask for.

    Weights decay; biases, batch norms and learned steps, of one axis or none, do not. ``scale`` of a group is what its
    learning rate is multiplied by: that of learned steps is their size, since Adam changes what is small as much as
    what is large.
    """
    steps = [part.step for part in model.modules() if isinstance(part, LearnedSteps)]
    known = {id(step) for step in steps}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": settings.weight_decay, "scale": 1.0},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0, "scale": 1.0},
        *(
            {"params": [step], "weight_decay": 0.0, "scale": float(step.detach().abs().mean())}
            for step in steps
            if step.requires_grad
        ),
    ]
    groups = [group for group in groups if group["params"]]
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, nesterov=settings.momentum > 0)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate)
    return torch.optim.Adam(groups, rate)
