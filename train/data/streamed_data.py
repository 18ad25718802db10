"""Data sets that come from the hub while they are trained on: nothing is downloaded before, nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tvm_fastconv.errors import TrainError

from .augment import NO_AUGMENTATION, Augmentation
from .batches import drawn_by
from .floats import as_floats

BUFFER = 2048
"""Images among which the next is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class StreamedData:
    """What `ImageData` is, from a stream.

    Attributes
    ----------
    name : str
    classes, channels, size : int
    count : int
        Images to train on.
    train, test : datasets.IterableDataset
        Rows of ``image``, uint8 (C, H, W), and ``label``.
    """

    name: str
    classes: int
    channels: int
    size: int
    count: int
    train: Any
    test: Any

    def batches(self, **options: Any) -> StreamedBatches:
        """What to train on; see `StreamedBatches`."""
        return StreamedBatches(rows=self.train, count=self.count, **options)

    def test_batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What to test with."""
        return _batches(iter(self.test), size)

    def examples(self, count: int) -> np.ndarray:
        """The first images to train on, (count, C, H, W)."""
        return np.stack([row["image"] for row in self.train.take(count)])


@dataclass(frozen=True, kw_only=True)
class StreamedBatches:
    """The batches of one process: `Batches` of a stream.

    Where shards can be shared out evenly, each process reads its own; else each reads all, and takes every
    ``world``-th image. A batch is drawn from `BUFFER` images that are read ahead, in an order that depends on seed and
    epoch alone.
    """

    rows: Any
    count: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    augmentation: Augmentation = NO_AUGMENTATION

    def __len__(self) -> int:
        return self.count // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images, float32 in 0..1, and labels of epoch ``number``, from batch ``start`` on."""
        part = slice(self.rank, self.batch_size, self.world)
        mine = len(range(self.batch_size)[part])
        batches = _batches(self._shuffled(number, start * mine), mine)
        for batch in range(start, len(self)):
            images, labels = next(batches)
            yield self.augmentation(images, drawn_by(self.seed, number, batch + 1), part), labels

    def _shuffled(self, epoch: int, skipped: int) -> Iterator[Any]:
        """The rows of this process without end: its share may fall short by a few.

        Raises
        ------
        TrainError
            There is none.
        """
        from datasets.distributed import split_dataset_by_node

        rows = split_dataset_by_node(self.rows, self.rank, self.world)
        seed = drawn_by(self.seed, epoch).initial_seed()  # a set_epoch would be lost by skip
        rows = rows.shuffle(seed=seed % (1 << 32), buffer_size=BUFFER)
        yield from rows.skip(skipped)
        if next(iter(rows), None) is None:
            raise TrainError(f"process {self.rank} of {self.world} has no images to read")
        while True:
            yield from rows


def _batches(rows: Iterator[Any], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows in batches, the last as large as it comes."""
    images, labels = [], []
    for row in rows:
        images.append(row["image"])
        labels.append(row["label"])
        if len(images) == size:
            yield _tensors(images, labels)
            images, labels = [], []
    if images:
        yield _tensors(images, labels)


def _tensors(images: list[np.ndarray], labels: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(as_floats(np.stack(images))), torch.tensor(labels)
