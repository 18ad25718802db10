"""Weights that the tests of the decompositions share: of a trained network, and of random ones like a ResNet's."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def trained() -> np.ndarray:
    """The third block's convolution of the trained classifier of digits, (64, 64, 3, 3)."""
    from tvm_fastconv.demo import trained_model
    from tvm_fastconv.train.data import load_digits

    return trained_model("dense", load_digits()).block3.conv.weight.detach().numpy()


@pytest.fixture(scope="session")
def correlated() -> np.ndarray:
    """A ResNet's layer, (128, 128, 3, 3), whose channels and taps are correlated, as trained ones are."""
    rng = np.random.default_rng(0)
    channels, taps = (rng.standard_normal((n, n)) * (1 + np.arange(n))[:, None] ** -0.7 for n in (128, 9))
    weight = np.einsum("oit,ic,ts->ocs", rng.standard_normal((128, 128, 9)), channels, taps, optimize=True)
    return weight.reshape(128, 128, 3, 3).astype(np.float32)


@pytest.fixture(params=["trained", "correlated"])
def layer(request: pytest.FixtureRequest) -> np.ndarray:
    """Either of them."""
    return request.getfixturevalue(request.param)
