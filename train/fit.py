"""A plain training loop for image classifiers that fit in memory."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .compress import penalty
from .schedules import anneal_density_


def fit(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int = 15,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Train ``model`` in place with Adam, cross entropy and one cosine cycle of the learning rate.

    The order of the images depends on ``seed`` alone; the model's first weights are the caller's business. The
    `penalty` of its layers is added to the loss, and their densities are annealed.

    Parameters
    ----------
    images
        ``(N, C, H, W)`` float32.
    labels
        ``(N,)`` integer classes.
    progress
        Called after each epoch with its number, from 1, and its mean loss.
    """
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(x) // batch_size)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for index in torch.randperm(len(x), generator=generator).split(batch_size):
            loss = nn.functional.cross_entropy(model(x[index]), y[index]) + penalty(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        anneal_density_(model, epoch / epochs)
        if progress is not None:
            progress(epoch, total / batches)
    model.eval()


def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of ``images`` whose largest score is at their label, in eval mode."""
    model.eval()
    with torch.inference_mode():
        predicted = model(torch.from_numpy(images)).argmax(1).numpy()
    return float((predicted == labels).mean())
