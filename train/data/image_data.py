"""What a data set of images is any of whose images can be had at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tvm_fastconv.errors import TrainError

from .batches import Batches
from .lazy_images import LazyImages


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images and labels to train on, and others to test with.

    Attributes
    ----------
    name : str
    classes : int
    train_images, test_images : ndarray or LazyImages, (N, C, H, W)
        uint8, or float32 in 0..1. Both stand for floats in 0..1, see `as_floats`.
    train_labels, test_labels : ndarray, (N,), int64
        0 to classes − 1.
    """

    name: str
    classes: int
    train_images: np.ndarray | LazyImages
    train_labels: np.ndarray
    test_images: np.ndarray | LazyImages
    test_labels: np.ndarray

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or len(images) != len(labels) or not len(images):
                shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
                raise TrainError(
                    f"{self.name}: {part} images and labels have shapes {shapes}; allowed: (N, C, H, W) and (N,)"
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise TrainError(
                    f"{self.name}: {part} labels are {labels.min()} to {labels.max()}; allowed: 0 to {self.classes - 1}"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise TrainError(
                f"{self.name}: images to train on are {tuple(self.train_images.shape[1:])}, those to test with "
                f"{tuple(self.test_images.shape[1:])}; allowed: one shape"
            )

    @property
    def channels(self) -> int:
        """Of every image."""
        return self.train_images.shape[1]

    @property
    def size(self) -> int:
        """Height of every image, and its width where networks need one number."""
        return self.train_images.shape[2]

    @property
    def count(self) -> int:
        """Images to train on."""
        return len(self.train_images)

    def batches(self, **options: Any) -> Batches:
        """What to train on; see `Batches`."""
        return Batches(images=self.train_images, labels=self.train_labels, **options)

    def test_batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What to test with, in order."""
        return Batches(images=self.test_images, labels=self.test_labels, batch_size=size).epoch(0)

    def examples(self, count: int) -> np.ndarray:
        """The first images to train on, (count, C, H, W)."""
        return self.train_images[:count]
