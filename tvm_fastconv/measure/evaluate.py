"""Accuracy of a compiled classifier on a data set, measured through the ``.so``."""

import time
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..runtime.compiled_model import CompiledModel

MOST = 1000
"""Images at a time for a model that takes any number."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    data
        Name of the data set.
    images, correct
        How many images were classified, and how many of them rightly.
    milliseconds_per_image
        Wall time of all calls over ``images``: one pass, not a benchmark.
    """

    data: str
    images: int
    correct: int
    milliseconds_per_image: float

    @property
    def accuracy(self) -> float:
        """Fraction of the images classified rightly."""
        return self.correct / self.images


def evaluate(model: CompiledModel, data: str) -> Evaluation:
    """Classify the held-out images of a data set, as many at a time as the model takes.

    Parameters
    ----------
    model
        One input of images, whose batch may be dynamic; its first output holds one score per class.
    data
        See `train.data.load_data`.

    Raises
    ------
    TrainError
        The data set is not known, or not there.
    InputError
        Its images do not fit the model's input.
    """
    from tvm_fastconv.train.data import as_floats, load_data

    found = load_data(data, _square(model))
    images, labels = found.test_images, found.test_labels
    batch = _batch_size(model, images.shape, data)
    correct, seconds = 0, 0.0
    for start in range(0, len(images), batch):
        part = as_floats(images[start : start + batch])
        padded = np.zeros((batch, *images.shape[1:]), np.float32)
        padded[: len(part)] = part
        begin = time.perf_counter()
        outputs = model(padded)
        seconds += time.perf_counter() - begin
        scores = outputs[0] if isinstance(outputs, tuple) else outputs
        if scores.ndim != 2:
            raise InputError(f"the model's output has shape {scores.shape}; expected (images, classes)")
        correct += int((scores[: len(part)].argmax(1) == labels[start : start + batch]).sum())
    return Evaluation(
        data=data, images=len(images), correct=correct, milliseconds_per_image=1e3 * seconds / len(images)
    )


def _square(model: CompiledModel) -> int | None:
    """Height and width of the images that ``model`` takes, if they are one number."""
    _, *shape = model.manifest.inputs[0].shape
    return shape[1] if len(shape) == 3 and isinstance(shape[1], int) and shape[1] == shape[2] else None


def _batch_size(model: CompiledModel, shape: tuple[int, ...], data: str) -> int:
    specs = model.manifest.inputs
    fits = len(specs) == 1 and specs[0].dtype == "float32" and specs[0].shape[1:] == shape[1:]
    if not fits:
        raise InputError(
            f"{data} has images of shape (N, {', '.join(map(str, shape[1:]))}) float32; "
            f"the model takes {'; '.join(map(str, specs))}"
        )
    batch = specs[0].shape[0]
    return batch if isinstance(batch, int) else min(shape[0], MOST)
