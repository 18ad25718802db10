"""Augmentation of whole batches in torch: what is drawn for an image does not depend on who holds the others."""

from dataclasses import dataclass

import torch
from torch import nn

from tvm_fastconv.errors import TrainError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to images to train on.

    Attributes
    ----------
    crop : int
        Pixels of zeros that are laid around, before a part of the old size is cut out at random.
    flip : bool
        Whether every second image is mirrored, left to right.
    erase : int
        Side of a square of zeros at a random place (DeVries and Taylor, cutout, arXiv:1708.04552); 0 for none.
    """

    crop: int = 0
    flip: bool = False
    erase: int = 0

    def __post_init__(self) -> None:
        for name in ("crop", "erase"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise TrainError(f"{name} is {value!r}; allowed: 0 or more")

    def __call__(self, images: torch.Tensor, generator: torch.Generator, part: slice) -> torch.Tensor:
        """Augment ``images`` (N, C, H, W), which are the ``part`` of a batch for all of which numbers are drawn.

        ``part`` has a stop: the size of the batch.
        """
        count = part.stop
        height, width = images.shape[2:]
        if self.crop:
            places = torch.randint(0, 2 * self.crop + 1, (2, count), generator=generator)[:, part]
            images = _shifted(nn.functional.pad(images, [self.crop] * 4), places, height, width)
        if self.flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5)[part]
            images = torch.where(mirrored[:, None, None, None].to(images.device), images.flip(3), images)
        if self.erase:
            centre = torch.rand(2, count, generator=generator)[:, part].to(images.device)
            rows = (
                torch.arange(height, device=images.device) - centre[0, :, None] * height
            ).abs() <= self.erase / 2
            columns = (
                torch.arange(width, device=images.device) - centre[1, :, None] * width
            ).abs() <= self.erase / 2
            images = images.masked_fill((rows[:, None, :, None] & columns[:, None, None, :]), 0)
        return images


def _shifted(padded: torch.Tensor, places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The part of each image that begins at its place, (2, N): row and column."""
    places = places.to(padded.device)
    rows = (places[0, :, None] + torch.arange(height, device=padded.device))[:, None, :, None]
    columns = (places[1, :, None] + torch.arange(width, device=padded.device))[:, None, None, :]
    images = torch.arange(len(padded), device=padded.device)[:, None, None, None]
    channels = torch.arange(padded.shape[1], device=padded.device)[None, :, None, None]
    return padded[images, channels, rows, columns]


NO_AUGMENTATION = Augmentation()
