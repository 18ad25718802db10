"""Networks of the demo, trained on scikit-learn's handwritten digits in a few seconds, as factories."""

from torch import nn

from tvm_fastconv.demo import trained_model
from tvm_fastconv.train.data import load_data


def bitserial() -> nn.Module:
    """Binary inner convolutions."""
    return trained_model("bitserial", load_data("digits"))


def separable() -> nn.Module:
    """Depthwise separable inner convolutions."""
    return trained_model("separable", load_data("digits"))
