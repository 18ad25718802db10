import pytest
import torch
from torch import nn

from tvm_fastconv.train.lookup_conv2d import LookupConv2d, SparseConv2d


@pytest.fixture
def layer() -> SparseConv2d:
    """Two filters of 2×3×3 weights; the first weight is at the threshold, the second just above."""
    torch.manual_seed(0)
    layer = SparseConv2d(2, 2, 3, penalty=0.5)
    with torch.no_grad():
        layer.weight.copy_(torch.sign(layer.weight) * layer.weight.abs().clamp(min=0.1))
        layer.weight.view(-1)[:3] = torch.tensor([layer.threshold, -1.001 * layer.threshold, -1.0])
    return layer


def test_the_threshold_is_a_hundredth_of_the_largest_first_weight() -> None:
    layer = SparseConv2d(200, 100, 3)
    assert layer.threshold == pytest.approx(
        layer.weight.abs().max().item() / 100, rel=1e-3
    )  # of 180 000 drawn


@pytest.mark.parametrize("training", [True, False])
def test_small_weights_count_as_zero(layer: SparseConv2d, training: bool) -> None:
    x = torch.randn(1, 2, 5, 5)
    weight = layer.weight.detach().clone()
    weight.view(-1)[0] = 0
    want = nn.functional.conv2d(x, weight, layer.bias)
    assert torch.equal(layer.train(training)(x), want)
    assert torch.equal(layer.sparse_weight(), weight)
    assert layer.kept.all() != training


def test_the_gradient_of_the_penalty_is_the_scaled_sign_and_zero_where_dropped(layer: SparseConv2d) -> None:
    layer.regularization().backward()
    want = 0.5 * layer.threshold * torch.sign(layer.weight.detach())
    want.view(-1)[0] = 0
    torch.testing.assert_close(layer.weight.grad, want)


def test_what_is_dropped_never_comes_back(layer: SparseConv2d) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    x = torch.randn(1, 2, 5, 5)
    (100 * layer.weight.view(-1)[0]).backward()  # momentum for the weight that is about to be dropped
    optimizer.step()
    with torch.no_grad():
        layer.weight.view(-1)[0] = 0
    for _ in range(3):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        assert layer.weight.grad.view(-1)[0] == 0
        optimizer.step()
    assert layer.weight.view(-1)[0].abs() > layer.threshold
    assert layer.sparse_weight().view(-1)[0] == 0
    copy = SparseConv2d(2, 2, 3)
    copy.load_state_dict(layer.state_dict())
    assert torch.equal(copy.eval()(x), layer.eval()(x))


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "bias"), [(3, 1, 1, False), (5, 2, 2, True)])
def test_a_lookup_convolution_is_one_convolution_by_the_product(
    kernel_size: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = LookupConv2d(
        7, 6, kernel_size, dictionary_size=4, stride=stride, padding=padding, bias=bias
    ).double()
    x = torch.randn(2, 7, 9, 8, dtype=torch.float64)
    dictionary = layer.dictionary.weight[:, :, 0, 0]
    merged = torch.einsum("okrs,kc->ocrs", layer.lookups.sparse_weight(), dictionary)
    want = nn.functional.conv2d(x, merged, layer.lookups.bias, stride, padding)
    torch.testing.assert_close(layer(x), want)
    assert layer.dictionary.bias is None
    assert (layer.lookups.bias is not None) == bias
