"""Loss and accuracy of a network."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..calibration import evaluated

BATCH = 500
"""Images at a time."""


@dataclass(frozen=True)
class Scores:
    """Over all images: mean cross entropy, and the shares whose label is first, or among the first five."""

    loss: float
    top1: float
    top5: float


@torch.no_grad()
def scores(model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Scores:
    """Run ``model`` in eval mode over ``batches`` of images and labels, where its parameters are."""
    like = next(model.parameters(), torch.zeros(()))
    sums, count = torch.zeros(3, dtype=torch.float64), 0
    with evaluated(model):
        for images, labels in batches:
            x, y = images.to(like), labels.to(like.device)
            got = model(x).float()
            best = got.topk(min(5, got.shape[1])).indices == y[:, None]
            loss = nn.functional.cross_entropy(got, y, reduction="sum")
            sums += torch.stack([loss, best[:, 0].sum(), best.sum()]).double().cpu()
            count += len(x)
    loss, top1, top5 = (sums / count).tolist()
    return Scores(loss, top1, top5)
