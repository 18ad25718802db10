import numpy as np
import pytest
import torch

from benchmarks.openvino_binary import BinaryNetwork

pytest.importorskip("openvino")


def _signs(seed, *shape):
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, 1, -1).astype(np.float32)


def _layer(data, weight, threshold):
    """As PyTorch computes it, padded with zeros."""
    bits = torch.where(torch.from_numpy(data) > threshold, 1.0, -1.0)
    return torch.nn.functional.conv2d(bits, torch.from_numpy(weight), padding=1).numpy()


@pytest.mark.parametrize(("channels", "outputs", "size"), [(64, 64, 12), (48, 40, 9), (32, 96, 7)])
def test_one_layer_is_a_convolution_of_signs(channels, outputs, size):
    data = np.random.default_rng(0).standard_normal((1, channels, size, size), np.float32)
    weight = _signs(1, outputs, channels, 3, 3)
    got = BinaryNetwork([weight], [0.25], data)()
    assert np.array_equal(got, _layer(data, weight, 0.25))


def test_two_layers_pass_bits_between_them():
    data = np.random.default_rng(0).standard_normal((2, 64, 33, 33), np.float32)
    weights = [_signs(1, 96, 64, 3, 3), _signs(2, 32, 96, 3, 3)]
    network = BinaryNetwork(weights, [0.0, -1.0], data, profiled=True)
    assert np.array_equal(network(), _layer(_layer(data, weights[0], 0.0), weights[1], -1.0))
    assert len(network.implementations()) == 2
    assert all(milliseconds > 0 for milliseconds in network.kernels_ms(2))
