"""The loss of a batch."""

import torch
from torch import nn

from .settings import Settings


class Loss:
    """Cross entropy with smoothed labels; with a teacher, partly the distance from its scores.

    Parameters
    ----------
    settings
    teacher
        Hinton et al., "Distilling the knowledge in a neural network", arXiv:1503.02531, section 2.
    """

    def __init__(self, settings: Settings, teacher: nn.Module | None) -> None:
        self.settings = settings
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over the batch."""
        scores, settings = model(images), self.settings
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        loss = nn.functional.cross_entropy(scores, labels, label_smoothing=settings.label_smoothing)
        if self.teacher is None:
            return loss
        heat = settings.temperature
        with torch.no_grad():
            wanted = torch.log_softmax(self.teacher(images).to(scores.dtype) / heat, 1)
        got = torch.log_softmax(scores / heat, 1)
        near = nn.functional.kl_div(got, wanted, reduction="batchmean", log_target=True) * heat**2
        return (1 - settings.distillation) * loss + settings.distillation * near
