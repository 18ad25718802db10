"""Loss and accuracy of a network on images in memory."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..calibration import evaluated
from ..data.image_data import as_floats

BATCH = 500


@dataclass(frozen=True)
class Scores:
    """Over all images: mean cross entropy, and the shares whose label is first, or among the first five."""

    loss: float
    top1: float
    top5: float


@torch.no_grad()
def scores(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> Scores:
    """Run ``model`` in eval mode over ``images``, where its parameters are."""
    like = next(model.parameters(), torch.zeros(()))
    sums = torch.zeros(3, dtype=torch.float64)
    with evaluated(model):
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(as_floats(images[start : start + BATCH])).to(like)
            y = torch.from_numpy(labels[start : start + BATCH]).to(like.device)
            got = model(x).float()
            best = got.topk(min(5, got.shape[1])).indices == y[:, None]
            loss = nn.functional.cross_entropy(got, y, reduction="sum")
            sums += torch.stack([loss, best[:, 0].sum(), best.sum()]).double().cpu()
    loss, top1, top5 = (sums / len(images)).tolist()
    return Scores(loss, top1, top5)
