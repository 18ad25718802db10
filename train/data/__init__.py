"""Data sets of images, by name or from a folder."""

import os
import re
from pathlib import Path

from tvm_fastconv.errors import TrainError

from .digits import load_digits
from .hub import HUB_NAMES, load_from_hub
from .idx import has_idx, load_idx
from .image_data import ImageData, as_floats

FOLDERS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist"}
"""Data sets of IDX files to the folder that they have in `SHARED`."""
SHARED = Path("/usr/share/datasets")
"""Where Debian's packages put data sets; its ``dataset-fashion-mnist`` has Fashion-MNIST."""

KNOWN = ("digits", *HUB_NAMES)


def load_data(source: str, size: int | None = None) -> ImageData:
    """A data set in memory.

    Parameters
    ----------
    source
        One of `KNOWN`; a folder of IDX files, of parquet or arrow files, or of image folders; or ``owner/name`` on
        the Hugging Face hub. MNIST and Fashion-MNIST are taken from a folder of their name in `SHARED` if that is
        there.
    size : int, optional
        Height and width to bring images to that are no IDX files.

    Raises
    ------
    TrainError
        There is none, with what would bring it.
    """
    if source == "digits":
        return load_digits()
    folder = SHARED / FOLDERS[source] if source in FOLDERS else Path(source)
    is_folder = os.path.isdir(folder)  # False also of what can be no name
    if is_folder and has_idx(folder):
        return load_idx(folder, source)
    if source in HUB_NAMES:
        try:
            return load_from_hub(HUB_NAMES[source], source, size)
        except TrainError as error:
            package = (
                "; or install Debian's package dataset-fashion-mnist" if source == "fashion-mnist" else ""
            )
            raise TrainError(f"{error}{package}") from None
    if not is_folder and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise TrainError(
            f"data set {source!r} is not known; known are {', '.join(KNOWN)}, folders and owner/name"
        )
    return load_from_hub(source, source, size)


__all__ = ["KNOWN", "ImageData", "as_floats", "load_data", "load_digits"]
