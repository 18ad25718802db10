"""A compiled model's inputs and outputs as ``.npy`` and ``.npz`` files."""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..artifact.artifact import replacing
from ..errors import InputError
from ..regular_files import open_regular
from ..report import TensorSpec

FREE_SIZE = 1
"""What stands in for a dynamic dimension where inputs are made up."""


def read_inputs(
    paths: Sequence[str | os.PathLike[str]], specs: Sequence[TensorSpec]
) -> tuple[np.ndarray, ...]:
    """Read one ``.npy`` file per input, in order, or one ``.npz`` file with an array per input name.

    Raises
    ------
    InputError
        A file cannot be read, or the files do not cover the inputs.
    """
    names = [spec.name for spec in specs]
    loaded = [_load(path) for path in paths]
    if len(loaded) == 1 and isinstance(loaded[0], dict):
        if missing := [name for name in names if name not in loaded[0]]:
            raise InputError(f"{paths[0]} has no array named {missing[0]!r}; it holds {', '.join(loaded[0])}")
        return tuple(loaded[0][name] for name in names)
    arrays = tuple(array for array in loaded if isinstance(array, np.ndarray))
    if len(arrays) != len(specs):
        wanted = "; ".join(map(str, specs))
        raise InputError(
            f"{len(paths)} files for {len(specs)} inputs ({wanted}): give one .npy each, or one .npz"
        )
    return arrays


def write_outputs(
    path: str | os.PathLike[str], outputs: Sequence[np.ndarray], specs: Sequence[TensorSpec]
) -> None:
    """Write one output to a ``.npy`` file, or any number to a ``.npz`` file under their names.

    Raises
    ------
    InputError
        The suffix does not suit the number of outputs.
    ArtifactError
        The file cannot be written.
    """
    check_output_suffix(path, specs)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if Path(path).suffix == ".npy":
            np.save(file, outputs[0])
            return
        with zipfile.ZipFile(file, "w") as archive:  # np.savez cannot store an array named "file"
            for spec, output in zip(specs, outputs, strict=True):
                with archive.open(f"{spec.name}.npy", "w") as member:
                    np.lib.format.write_array(member, output, allow_pickle=False)


def check_output_suffix(path: str | os.PathLike[str], specs: Sequence[TensorSpec]) -> None:
    """Raise ``InputError`` unless ``path`` ends in ``.npz``, or in ``.npy`` for a single output."""
    if Path(path).suffix not in ((".npy", ".npz") if len(specs) == 1 else (".npz",)):
        raise InputError(
            f"cannot write {len(specs)} outputs to {path}; allowed: .npz, or .npy where there is one output"
        )


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return inputs for timing: standard normal floats, zeros of other types, dynamic dimensions of size 1."""
    generator = np.random.default_rng(seed)
    shapes = [tuple(size if isinstance(size, int) else FREE_SIZE for size in spec.shape) for spec in specs]
    return tuple(
        generator.standard_normal(shape).astype(spec.dtype)
        if "float" in spec.dtype
        else np.zeros(shape, spec.dtype)
        for spec, shape in zip(specs, shapes, strict=True)
    )


def _load(path: str | os.PathLike[str]) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with open_regular(path) as file:
            loaded = np.load(io.BufferedReader(file), allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory: {error}") from None
    except Exception:  # of zipfile, zlib, ast and tokenize too: the header is a Python expression
        raise InputError(f"{path} is not a .npy or .npz file of plain arrays") from None
