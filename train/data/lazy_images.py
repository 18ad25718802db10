"""Images that stay in their files until they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tvm_fastconv.errors import TrainError, quoted


class LazyImages:
    """As an array of uint8, (N, C, H, W), as far as its length, its shape and the first index go.

    Parameters
    ----------
    split : datasets.Dataset
    column : str
        Of the images.
    prepare : callable
        From an image of PIL to an array (C, H, W).
    name : str
        What to call the data set in messages.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, split: Any, column: str, prepare: Callable[[Any], np.ndarray], name: str) -> None:
        self._split, self._column, self._prepare, self._name = split, column, prepare, name
        self.shape = (len(split), *prepare(split[0][column]).shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice | np.ndarray) -> np.ndarray:
        """Decode some, on as many threads as there are cores.

        Raises
        ------
        TrainError
            One cannot be read, or has another size than the first.
        """
        places = np.arange(len(self))[where].tolist()
        try:
            with ThreadPoolExecutor() as pool:
                parts = list(pool.map(self._prepare, self._split[places][self._column]))
        except (OSError, ValueError, SyntaxError) as error:  # what PIL raises on damaged files
            raise TrainError(f"{self._name} has images that cannot be read: {quoted(error)}") from None
        if any(part.shape != self.shape[1:] for part in parts):
            raise sizes_differ(self._name)
        return np.stack(parts) if parts else np.zeros((0, *self.shape[1:]), np.uint8)


def sizes_differ(name: str) -> TrainError:
    """What to raise."""
    return TrainError(
        f"{name} has images of different sizes, or grey ones beside coloured; give the size to bring them to, and make "
        "all of them grey or coloured"
    )
