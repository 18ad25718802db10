import pytest
import torch
from torch import nn

from benchmarks.separable_networks import FORMS, SEPARABLE_NETWORKS, SeparableNetwork

CHAINS = {
    "std": [((3, 3), False)],
    "fac": [((3, 1), False), ((1, 3), False)],
    "sep": [((3, 3), True), ((1, 1), False)],
    "cp": [((1, 1), False), ((3, 1), True), ((1, 3), True), ((1, 1), False)],
}
"""Kernel, and whether it is depthwise, of each convolution that stands for a 3×3 one."""
REPLACED = {"all_cnn_c": (2, 3, 4, 5, 6, 7), "wider": (2, 3, 4, 5), "adequately_designed": (2, 3, 5)}
SEPARABLE = {"all_cnn_c": (), "wider": (), "adequately_designed": (4, 6)}
OUTPUTS = {
    "all_cnn_c": [96, 96, 96, 192, 192, 192, 192, 192, 100],
    "wider": [192, 96, 384, 128, 256, 100],
    "adequately_designed": [96, 96, 96, 256, 192, 256, 100],
}
HALVED = {"all_cnn_c": (3, 6), "wider": (2, 4), "adequately_designed": (3, 5)}
"""Blocks with stride 2."""


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [part for part in block.modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize("network", SEPARABLE_NETWORKS, ids=lambda network: network.name)
def test_a_form_replaces_every_3x3_convolution_but_the_first(network: SeparableNetwork) -> None:
    blocks = [block for name, block in network.build().named_children() if name.startswith("block")]
    assert [block.norm.num_features for block in blocks] == OUTPUTS[network.plan]
    for index, block in enumerate(blocks, 1):
        form = network.form if index in REPLACED[network.plan] else "std"
        chain = CHAINS["sep" if index in SEPARABLE[network.plan] else form]
        if index > len(blocks) - (2 if network.plan == "all_cnn_c" else 1):
            chain = [((1, 1), False)]
        assert [(conv.kernel_size, conv.groups > 1) for conv in _convolutions(block)] == chain
        assert isinstance(block[-1], nn.ReLU)


@pytest.mark.parametrize("network", SEPARABLE_NETWORKS, ids=lambda network: network.name)
def test_activations_are_settled_and_planes_halve_at_the_strides(network: SeparableNetwork) -> None:
    module, (image,) = network.make(batch=3)
    assert not module.training
    x, side = image, 32
    with torch.inference_mode():
        for index in range(1, len(OUTPUTS[network.plan]) + 1):
            x = getattr(module, f"block{index}")(x)
            side //= 2 if index in HALVED[network.plan] else 1
            assert x.shape == (3, OUTPUTS[network.plan][index - 1], side, side)
            assert 0.1 < x.std() < 10  # 0.6 after a ReLU of what batch norm leaves
        assert module(image).shape == (3, 100)


@pytest.mark.parametrize("form", FORMS)
def test_networks_are_the_same_every_time(form: str) -> None:
    (first, x), (second, y) = (SeparableNetwork("wider", form).make() for _ in range(2))
    assert torch.equal(x[0], y[0])
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_parameters_of_the_plain_all_cnn_c() -> None:
    weights = 9 * (3 * 96 + 2 * 96 * 96 + 96 * 192 + 3 * 192 * 192) + 192 * (192 + 100)
    norms = 2 * (3 * 96 + 5 * 192 + 100)
    module = SeparableNetwork("all_cnn_c", "std").build()
    assert sum(p.numel() for p in module.parameters()) == weights + norms


def test_cp_ranks_are_half_of_the_smaller_channel_count() -> None:
    module = SeparableNetwork("wider", "cp").build()
    ranks = [getattr(module, f"block{index}").conv.column.groups for index in (2, 3, 4, 5)]
    assert ranks == [48, 48, 64, 64]
