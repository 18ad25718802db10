"""The handwritten digits that come with scikit-learn: 1797 images of 8×8 pixels, written by 43 people."""

from dataclasses import dataclass

import numpy as np

from tvm_fastconv.errors import FastconvError

CLASSES = 10
_HELD_OUT = 450  # a quarter
_WHITE = 16.0  # the data's largest pixel value
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The data set, split the same way every time.

    Parameters
    ----------
    train_images, test_images
        ``(N, 1, 8, 8)`` float32 in 0..1.
    train_labels, test_labels
        ``(N,)`` int64 in 0..9.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits() -> Digits:
    """Return the digits: 1347 to train on and 450 held out, no image in both.

    Raises
    ------
    FastconvError
        When scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise FastconvError(
            "the digits come with scikit-learn, which is not installed; run: pip install 'tvm-fastconv[train]'"
        ) from None
    data = datasets.load_digits()
    images = (data.images / _WHITE).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order = np.random.RandomState(_SEED).permutation(len(labels))
    test, train = order[:_HELD_OUT], order[_HELD_OUT:]
    return Digits(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )
