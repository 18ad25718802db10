"""A 3×3 convolution as five fixed stencils on each channel and a 1×1 convolution, as in the project fxnn.

``W[o, c, :, :] ≈ Σ_s P[o, c, s] · STENCILS[s]``: only the 1×1 convolution has weights, the least squares solution.
"""

from dataclasses import dataclass

import numpy as np

from .depthwise_separable import depthwise_product
from .weights import check_weight, relative_error

STENCILS = np.array(
    [
        [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        [[1, 0, -1], [0, 0, 0], [-1, 0, 1]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    ],
    np.float32,
)
"""(5, 3, 3): blur, Sobel down the rows, Sobel along the columns, diagonal difference, identity; each separable."""


@dataclass(frozen=True)
class FixedStencilFactors:
    """The stencils' coefficients in place of a weight.

    Attributes
    ----------
    depthwise : ndarray, (5 · c, 1, 3, 3), float32
        Kernel 5 · i + s is stencil s, and reads input channel i.
    pointwise : ndarray, (o, 5 · c, 1, 1), float32
    error : float
        ``‖weight − self.weight‖ / ‖weight‖`` (Frobenius norm).
    """

    depthwise: np.ndarray
    pointwise: np.ndarray
    error: float

    @property
    def weight(self) -> np.ndarray:
        """The approximation, (o, c, 3, 3), float64."""
        return depthwise_product(self.depthwise, self.pointwise, len(self.depthwise) // len(STENCILS))


def fixed_stencil(weight: np.ndarray) -> FixedStencilFactors:
    """Approximate ``weight`` by `STENCILS` and a 1×1 convolution.

    Parameters
    ----------
    weight : ndarray, (o, c, 3, 3), float32

    Raises
    ------
    ValueError
        The kernel is not 3×3, or ``weight`` is not finite.
    """
    check_weight(weight)
    o, c, kh, kw = weight.shape
    if (kh, kw) != (3, 3):
        raise ValueError(f"the kernel is {kh}×{kw}; allowed: 3×3")
    solve = np.linalg.pinv(STENCILS.reshape(len(STENCILS), -1).astype(np.float64))
    pointwise = (weight.reshape(o, c, 9).astype(np.float64) @ solve).reshape(o, -1, 1, 1).astype(np.float32)
    depthwise = np.tile(STENCILS[:, None], (c, 1, 1, 1))
    return FixedStencilFactors(
        depthwise, pointwise, relative_error(weight, depthwise_product(depthwise, pointwise, c))
    )
