"""The handwritten digits that come with scikit-learn: 1797 images of 8×8 pixels, written by 43 people."""

import numpy as np

from tvm_fastconv.errors import TrainError

from .image_data import ImageData

CLASSES = 10
HELD_OUT = 450  # a quarter
WHITE = 16.0  # the data's largest pixel value
SEED = 0


def load_digits() -> ImageData:
    """The digits, float32: 1347 to train on and 450 held out, no image in both, the same every time.

    Raises
    ------
    TrainError
        When scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise TrainError(
            "the digits come with scikit-learn, which is not installed; run: pip install 'tvm-fastconv[train]'"
        ) from None
    data = datasets.load_digits()
    images = (data.images / WHITE).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order = np.random.RandomState(SEED).permutation(len(labels))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    return ImageData(
        name="digits",
        classes=CLASSES,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )
