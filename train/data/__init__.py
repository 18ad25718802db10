"""Data sets of images, by name or from a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tvm_fastconv.errors import TrainError, quoted

from .digits import load_digits
from .floats import as_floats
from .hub import HUB_NAMES, load_from_hub, stream_from_hub
from .idx import has_idx, load_idx
from .image_data import ImageData
from .streamed_data import StreamedData

FOLDERS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist"}
"""Data sets of IDX files to the folder that they have in `SHARED`."""
SHARED = Path("/usr/share/datasets")
"""Where Debian's packages put data sets; its ``dataset-fashion-mnist`` has Fashion-MNIST."""

KNOWN = ("digits", *HUB_NAMES)

Loaded = TypeVar("Loaded")


Data: TypeAlias = ImageData | StreamedData


def load_data(source: str, size: int | None = None) -> ImageData:
    """A data set whose images are in memory, or, where they are too many for that, in files that are here.

    Parameters
    ----------
    source
        One of `KNOWN`; a folder of IDX files, of parquet or arrow files, or of image folders; or ``owner/name`` on
        the Hugging Face hub. MNIST and Fashion-MNIST are taken from a folder of their name in `SHARED` if that is
        there.
    size : int, optional
        Height and width to bring images to; those of digits and IDX files stay what they are.

    Raises
    ------
    TrainError
        There is none, with what would bring it.
    """
    if size is not None and size < 1:
        raise TrainError(f"size is {size}; allowed: 1 or more")
    folder = _folder_of(source)
    try:
        if source == "digits":
            return load_digits()
        if folder is not None and has_idx(folder):
            return load_idx(folder, source)
        return _from_hub(load_from_hub, source, size)
    except (OSError, ValueError, TypeError, IndexError, RuntimeError) as error:  # of files that anybody wrote
        raise TrainError(f"{source} cannot be read: {quoted(error)}") from None


def stream_data(source: str, size: int | None) -> StreamedData:
    """A data set that comes from the hub while it is trained on, as `load_data` finds it there.

    Raises
    ------
    TrainError
        There is none, nothing says how many images it has, or no ``size`` is given.
    """
    if source == "digits" or ((folder := _folder_of(source)) and has_idx(folder)):
        raise TrainError(f"{source} is small and here; allowed to stream: data sets of the hub")
    return _from_hub(stream_from_hub, source, size)


def _folder_of(source: str) -> Path | None:
    """Where the data set lies on this machine, if it does."""
    folder = SHARED / FOLDERS[source] if source in FOLDERS else Path(source)
    return folder if os.path.isdir(folder) else None  # None also for what can be no name


def _from_hub(load: Callable[[str, str, Any], Loaded], source: str, size: int | None) -> Loaded:
    if source in HUB_NAMES:
        try:
            return load(HUB_NAMES[source], source, size)
        except TrainError as error:
            package = (
                "; or install Debian's package dataset-fashion-mnist" if source == "fashion-mnist" else ""
            )
            raise TrainError(f"{error}{package}") from None
    if _folder_of(source) is None and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise TrainError(
            f"data set {source!r} is not known; known are {', '.join(KNOWN)}, folders and owner/name"
        )
    return load(source, source, size)


__all__ = [
    "KNOWN",
    "Data",
    "ImageData",
    "StreamedData",
    "as_floats",
    "load_data",
    "load_digits",
    "stream_data",
]
