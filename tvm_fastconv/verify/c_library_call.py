"""One call of a C library in this process: whether it computes what the file for TVM's runtime does."""

import _ctypes
import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import FastconvError
from ..report import TensorSpec
from ..runtime.arrays import aligned_copy, aligned_empty


def call_c_library(
    library: Path,
    name: str,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[TensorSpec],
    weights: Path | None = None,
) -> list[np.ndarray]:
    """Load ``library``, run the network ``name`` once, on this thread alone, and unload it.

    Parameters
    ----------
    inputs, outputs
        Arrays as the network takes them, and what it writes.
    weights
        The file that holds them, where they are no part of the library.

    Raises
    ------
    FastconvError
        It returns an error.
    """
    loaded = ctypes.CDLL(str(library))
    try:
        room = loaded[f"{name}_workspace_bytes"]
        room.restype = ctypes.c_size_t
        size = room(None)
        arrays = [aligned_copy(array) for array in inputs]
        results = [aligned_empty(tuple(map(int, spec.shape)), spec.dtype) for spec in outputs]
        groups = [
            (ctypes.c_void_p * max(len(group), 1))(*map(_address, group)) for group in (arrays, results)
        ]
        workspace = aligned_empty((size,), np.uint8)
        apart = None if weights is None else aligned_copy(np.fromfile(weights, np.uint8))
        first = [] if apart is None else [ctypes.c_void_p(_address(apart))]
        status = loaded[f"{name}_run"](
            *first, *groups, ctypes.c_void_p(_address(workspace)), ctypes.c_size_t(size), None
        )
        if status:
            raise FastconvError(f"the C library {name} cannot run: {name}_run returns {status}")
        return results
    finally:
        _ctypes.dlclose(loaded._handle)


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)
