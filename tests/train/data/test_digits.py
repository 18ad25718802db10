import builtins

import numpy as np
import pytest

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.train.data.digits import CLASSES, load_digits


def test_shapes_and_ranges() -> None:
    digits = load_digits()
    assert digits.train_images.shape == (1347, 1, 8, 8)
    assert digits.test_images.shape == (450, 1, 8, 8)
    assert digits.train_images.dtype == np.float32
    assert digits.train_labels.dtype == np.int64
    for images in (digits.train_images, digits.test_images):
        assert (images.min(), images.max()) == (0, 1)
    assert set(digits.test_labels) == set(range(CLASSES))


def test_the_split_repeats_and_covers_the_data_once() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    first, second = load_digits(), load_digits()
    np.testing.assert_array_equal(first.test_images, second.test_images)
    together = np.concatenate([first.train_images, first.test_images])[:, 0] * 16
    original = sklearn.load_digits().images
    order = [np.lexsort(images.reshape(len(images), -1).T) for images in (together, original)]
    np.testing.assert_array_equal(together[order[0]], original[order[1]])


def test_labels_belong_to_their_images() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    data, digits = sklearn.load_digits(), load_digits()
    label_of = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(data.images, data.target, strict=True)
    }
    expected = [label_of[(image[0] * 16).tobytes()] for image in digits.test_images]
    np.testing.assert_array_equal(digits.test_labels, expected)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(FastconvError, match=r"pip install 'tvm-fastconv\[train\]'"):
        load_digits()
