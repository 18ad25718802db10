"""The integers that lists of coefficients are made of: as short as they can be, since each is read with its value."""

import numpy as np


def compact(values: np.ndarray) -> np.ndarray:
    """Non-negative integers as uint16 where that holds the largest, else as int32."""
    return values.astype(np.uint16 if values.max(initial=0) < 1 << 16 else np.int32)
