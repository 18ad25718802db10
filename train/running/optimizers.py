"""Optimizers by name."""

import torch
from torch import nn

from .settings import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """What ``settings`` ask for. Weights decay; biases, batch norms and learned steps, of one axis or none, do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, nesterov=settings.momentum > 0)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate)
    return torch.optim.Adam(groups, rate)
