"""IDX files, as LeCun wrote MNIST: a magic number, the sizes, the bytes (http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from tvm_fastconv.errors import TrainError

from .image_data import ImageData

UBYTE = 8
"""Type code of unsigned bytes, the third byte of the magic number."""

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""What is in which file, with ``.gz`` behind the name or without."""


def read_idx(path: Path) -> np.ndarray:
    """The bytes in ``path``, packed by gzip or not, in their shape.

    Raises
    ------
    TrainError
        It is no IDX file of bytes, or is damaged.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise TrainError(f"{path} cannot be read: {error}") from None
    if len(raw) < 4 or raw[:3] != bytes([0, 0, UBYTE]) or len(raw) < 4 + 4 * raw[3]:
        raise TrainError(
            f"{path} is no IDX file of unsigned bytes: it begins with {raw[:4].hex(' ') or 'nothing'}"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", raw[3], 4))
    begin = 4 + 4 * raw[3]
    if len(raw) - begin != math.prod(shape):
        raise TrainError(
            f"{path} holds {len(raw) - begin} bytes; its header says {' × '.join(map(str, shape))}"
        )
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def has_idx(folder: Path) -> bool:
    """Whether all `FILES` are in ``folder``."""
    return all(
        any(_candidate.exists() for _candidate in _candidates(folder, name)) for name in FILES.values()
    )


def load_idx(folder: Path, name: str) -> ImageData:
    """The data set of the four `FILES` in ``folder``.

    Raises
    ------
    TrainError
        One is missing or damaged.
    """
    found = {}
    for part, file in FILES.items():
        paths = [path for path in _candidates(folder, file) if path.exists()]
        if not paths:
            raise TrainError(
                f"{folder} has no {file}; a data set of IDX files has {', '.join(FILES.values())}"
            )
        found[part] = read_idx(paths[0])
    images = {part: found[part][:, None] for part in ("train_images", "test_images")}
    labels = {part: found[part].astype(np.int64) for part in ("train_labels", "test_labels")}
    return ImageData(name=name, classes=int(labels["train_labels"].max()) + 1, **images, **labels)


def _candidates(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, folder / f"{name}.gz"
