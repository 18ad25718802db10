"""Data sets through Hugging Face ``datasets``: names of the hub, and folders of parquet, arrow or image files."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tvm_fastconv.errors import TrainError, quoted

from .image_data import ImageData
from .lazy_images import LazyImages
from .streamed_data import StreamedData

HUB_NAMES = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "imagenet-1k": "ILSVRC/imagenet-1k",
}
"""Our name to the hub's."""

IN_MEMORY = 1 << 32
"""Bytes of images that are decoded once and kept; more are decoded whenever they are asked for."""

TEST_SPLITS = ("test", "validation", "valid", "val")
"""Of what is there, the first with labels is what is tested with."""


def load_from_hub(source: str, name: str, size: int | None = None) -> ImageData:
    """The data set ``source``, a hub's name or a folder; in memory if its images take no more than `IN_MEMORY`.

    Parameters
    ----------
    source
        A folder that ``save_to_disk`` wrote, that has parquet files, or that has an image folder for every class in
        ``train`` and ``test``; or a name on the hub.
    name
        What to call it in messages.
    size : int, optional
        Height and width to bring all images to: the shorter side is scaled, and the middle is cut out. By default
        they must have one size.

    Raises
    ------
    TrainError
        ``datasets`` is not installed, or there is no such data set, or it has no images with labels.
    """
    train, test = _train_and_test(open_splits(source, name), name)
    image, label, classes = columns_of(train, name)
    parts: dict[str, Any] = {}
    for part, split in (("train", train), ("test", test)):
        images = LazyImages(split, image, partial(prepared, size=size), name)
        parts[f"{part}_images"] = images[:] if math.prod(images.shape) <= IN_MEMORY else images
        parts[f"{part}_labels"] = np.array(split[label], np.int64)
    return ImageData(name=name, classes=classes, **parts)


def stream_from_hub(source: str, name: str, size: int | None) -> StreamedData:
    """The data set ``source``, as `load_from_hub` knows it, read while it is trained on.

    Raises
    ------
    TrainError
        As `load_from_hub`; or nothing says how many images it has, or no ``size`` is given.
    """
    if size is None:
        raise TrainError(f"{name} is to be streamed, and no size is given to bring its images to")
    train, test = _train_and_test(open_splits(source, name, streaming=True), name)
    image, label, classes = columns_of(train, name)
    known = (train.info.splits or {}).get("train")
    if known is None or not known.num_examples:
        raise TrainError(f"{name} does not say how many images it has; without --streaming they are counted")

    def row(given: dict[str, Any]) -> dict[str, Any]:
        return {"image": prepared(given[image], size), "label": given[label]}

    streams = [split.map(row, remove_columns=list(split.features)) for split in (train, test)]
    first = next(iter(streams[0]))["image"]
    return StreamedData(
        name=name,
        classes=classes,
        channels=len(first),
        size=size,
        count=known.num_examples,
        train=streams[0],
        test=streams[1],
    )


def _train_and_test(splits: Any, name: str) -> tuple[Any, Any]:
    test = next((split for split in TEST_SPLITS if split in splits), None)
    if test is None or "train" not in splits:
        raise TrainError(
            f"{name} has the splits {', '.join(splits)}; allowed: train, and one of {', '.join(TEST_SPLITS)}"
        )
    return splits["train"], splits[test]


def open_splits(source: str, name: str, streaming: bool = False) -> Any:
    """Split name to ``datasets.Dataset``, or, ``streaming``, to ``datasets.IterableDataset``.

    Raises
    ------
    TrainError
        ``datasets`` is not installed, or there is no such data set.
    """
    try:
        import datasets
    except ImportError:
        raise TrainError(
            f"{name} is read through Hugging Face datasets, which is not installed; run: "
            "pip install 'tvm-fastconv[train]'"
        ) from None
    folder = Path(source)
    try:
        if not folder.is_dir():
            return datasets.load_dataset(source, streaming=streaming)
        if (folder / "README.md").exists():  # a copy of one on the hub, card and all
            return datasets.load_dataset(source, streaming=streaming)
        if streaming:
            raise TrainError("it is a folder here; it needs no --streaming")
        if (folder / "dataset_dict.json").exists():
            return datasets.load_from_disk(source)
        tables = any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))
        if not tables and not (folder / "train").is_dir():
            raise TrainError("it has no parquet files, and no folder train of image folders")
        return datasets.load_dataset("parquet" if tables else "imagefolder", data_dir=source)
    except Exception as error:  # of the network, the hub, the files: datasets has no base of its own
        raise TrainError(
            f"{name} cannot be had as {source!r}: {quoted(error)}; "
            "hand over a folder of IDX, parquet or arrow files, or an image folder, or run where the hub is reached"
        ) from None


def columns_of(split: Any, name: str) -> tuple[str, str, int]:
    """The columns of the images and the labels, and how many classes there are."""
    features = split.features or {}
    images = [column for column, kind in features.items() if type(kind).__name__ == "Image"]
    labels = [column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    if "fine_label" in labels:  # CIFAR-100 has coarse ones too
        labels = ["fine_label"]
    if len(images) != 1 or len(labels) != 1:
        raise TrainError(
            f"{name} has the columns {', '.join(features) or 'none'}; allowed: one of images, one of class labels"
        )
    return images[0], labels[0], features[labels[0]].num_classes


def prepared(image: Any, size: int | None) -> np.ndarray:
    """A PIL image as (C, H, W), uint8, of ``size`` if that is given; of 16 bits the upper ones."""
    if image.mode.startswith("I"):
        from PIL import Image

        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8))
    if size is not None and image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height)).crop((left, top, left + size, top + size))
    pixels = np.array(image.convert("L" if image.mode in ("L", "1", "F") else "RGB"))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))
