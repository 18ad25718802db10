"""What a data set of images is that fits in memory."""

from dataclasses import dataclass

import numpy as np

from tvm_fastconv.errors import TrainError


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images and labels to train on, and others to test with.

    Attributes
    ----------
    name : str
    classes : int
    train_images, test_images : ndarray, (N, C, H, W)
        uint8, or float32 in 0..1. Both stand for floats in 0..1, see `as_floats`.
    train_labels, test_labels : ndarray, (N,), int64
        0 to classes − 1.
    """

    name: str
    classes: int
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
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


def as_floats(images: np.ndarray) -> np.ndarray:
    """``images``, float32 in 0..1."""
    floats = images.astype(np.float32)
    return floats / np.float32(255) if images.dtype == np.uint8 else floats
