"""What bytes of images stand for."""

import numpy as np


def as_floats(images: np.ndarray) -> np.ndarray:
    """``images``, float32 in 0..1."""
    floats = images.astype(np.float32)
    return floats / np.float32(255) if images.dtype == np.uint8 else floats
