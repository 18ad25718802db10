"""Batches of images that any index reaches: which images are in which batch depends on the seed and the epoch alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .augment import NO_AUGMENTATION, Augmentation
from .floats import as_floats
from .lazy_images import LazyImages


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of one process.

    Attributes
    ----------
    images : ndarray or LazyImages
    labels : ndarray
        Of the whole data set.
    batch_size : int
        Of all processes together.
    seed : int, optional
        Of the order, and of what augmentation draws; without, images come in their own order, and all of them.
        With one, the last batch is left out if it is not full.
    rank, world : int
        Of so many processes, this one; it takes every ``world``-th image of each batch.
    augmentation : Augmentation
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    batch_size: int
    seed: int | None = None
    rank: int = 0
    world: int = 1
    augmentation: Augmentation = NO_AUGMENTATION

    def __len__(self) -> int:
        whole = len(self.images) // self.batch_size
        return whole if self.seed is not None else -(-len(self.images) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images, float32 in 0..1, and labels of epoch ``number``, from batch ``start`` on."""
        order = torch.arange(len(self.images))
        if self.seed is not None:
            order = torch.randperm(len(order), generator=drawn_by(self.seed, number))
        for batch in range(start, len(self)):
            picked = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            part = slice(self.rank, len(picked), self.world)
            mine = picked[part].numpy()
            images = torch.from_numpy(as_floats(self.images[mine]))
            labels = torch.from_numpy(self.labels[mine])
            if self.seed is not None:
                drawn = drawn_by(self.seed, number, batch + 1)
                images = self.augmentation(images, drawn, part)
            yield images, labels


def drawn_by(*numbers: int) -> torch.Generator:
    """Random numbers that depend on ``numbers`` alone."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 62)
    return torch.Generator().manual_seed(mixed)
