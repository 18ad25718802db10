"""How floats are compared: relative to the largest of what is wanted, since that is what their rounding is relative to.

An element that is small because a sum cancels carries the rounding of the summands, and how much of it shows depends
on the order of the sum, thus on the processor.
"""

from typing import Any

import numpy as np


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Compare two arrays or tensors of one shape: no element is off by more than ``tolerance`` times the largest."""
    got, want = (x.detach().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (got, want))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(initial=0))
