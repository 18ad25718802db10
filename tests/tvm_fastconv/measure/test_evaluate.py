from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tvm_fastconv.errors import InputError, TrainError
from tvm_fastconv.measure.evaluate import evaluate
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.train import data
from tvm_fastconv.train.data import ImageData

COUNT = 7
LABELS = np.arange(COUNT) % 3


class Classifier:
    """Stands in for a compiled model: sees the class in the first pixel, and errs on the third image."""

    def __init__(self, batch: int | str, **changes: Any) -> None:
        fields = {"name": "image", "shape": (batch, 1, 2, 2), "dtype": "float32"} | changes
        self.manifest = SimpleNamespace(inputs=(TensorSpec(**fields),))
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        return np.eye(3, dtype=np.float32)[images[:, 0, 0, 0].astype(int)]


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((COUNT, 1, 2, 2), np.float32)
    images[:, 0, 0, 0] = LABELS
    images[2, 0, 0, 0] = 0
    tiny = ImageData(
        name="tiny", classes=3, train_images=images, train_labels=LABELS, test_images=images, test_labels=LABELS
    )  # fmt: skip
    real = data.load_data
    monkeypatch.setattr(data, "load_data", lambda name, size=None: tiny if name == "tiny" else real(name))


@pytest.mark.parametrize(("batch", "batches"), [(1, [1] * 7), (3, [3, 3, 3]), (16, [16]), ("n", [7])])
def test_every_image_counts_once_whatever_the_batch(batch: int | str, batches: list[int]) -> None:
    model = Classifier(batch)
    result = evaluate(model, "tiny")
    assert (result.images, result.correct, model.batches) == (7, 6, batches)
    assert result.accuracy == 6 / 7
    assert result.milliseconds_per_image > 0


@pytest.mark.parametrize("change", [{"shape": (1, 3, 2, 2)}, {"shape": (1, 4)}, {"dtype": "float64"}])
def test_a_model_for_other_images_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"tiny has images of shape \(N, 1, 2, 2\) float32; the model takes image"
    ):
        evaluate(Classifier(1, **change), "tiny")


def test_scores_must_be_two_dimensional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "__call__", lambda self, images: images)
    with pytest.raises(InputError, match=r"output has shape \(1, 1, 2, 2\)"):
        evaluate(Classifier(1), "tiny")


def test_unknown_data() -> None:
    with pytest.raises(TrainError, match="data set 'digit' is not known; known are digits, "):
        evaluate(Classifier(1), "digit")


@pytest.mark.parametrize(("shape", "size"), [((1, 1, 4, 4), 4), ((1, 1, 4, 6), None), ((1, 16), None)])
def test_images_are_brought_to_the_size_of_a_model_that_is_square(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], size: int | None
) -> None:
    asked = []
    monkeypatch.setattr(data, "load_data", lambda name, size: asked.append(size) or data.load_digits())
    with pytest.raises(InputError, match="digits has images of shape"):
        evaluate(Classifier(1, shape=shape), "digits")
    assert asked == [size]
