import torch
from torch import nn

from tvm_fastconv.train.fixed_stencil_conv2d import FixedStencilConv2d, FixedStencils

KERNELS = [
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
    [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    [[1, 0, -1], [0, 0, 0], [-1, 0, 1]],
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
]


def test_the_kernels_are_the_published_five() -> None:
    assert torch.equal(FixedStencils(2).weight[5:, 0], torch.tensor(KERNELS, dtype=torch.float32))


def test_every_channel_is_filtered_by_every_stencil_channel_by_channel() -> None:
    torch.manual_seed(0)
    x = torch.randint(-8, 8, (2, 3, 8, 7)).float()  # small integers: sums are exact in any order
    for stride, padding in ((1, 1), (2, 1), (1, 0)):
        got = FixedStencils(3, stride=stride, padding=padding)(x)
        for channel in range(3):
            for index, kernel in enumerate(KERNELS):
                want = nn.functional.conv2d(
                    x[:, channel : channel + 1], torch.tensor([[kernel]]).float(), None, stride, padding
                )
                assert torch.equal(got[:, 5 * channel + index], want[:, 0])


def test_stencils_do_not_train() -> None:
    torch.manual_seed(0)
    layer = FixedStencilConv2d(4, 6, padding=1)
    assert [name for name, _ in layer.named_parameters()] == ["pointwise.weight", "pointwise.bias"]
    pointwise = layer.pointwise.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.requires_grad_(True).parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
        optimizer.step()
    assert torch.equal(layer.stencils.weight, FixedStencils(4).weight)
    assert not torch.equal(layer.pointwise.weight, pointwise)


def test_noise_comes_out_of_each_stencil_equally_large() -> None:
    torch.manual_seed(0)
    layer = FixedStencilConv2d(64, 512, bias=False)
    with torch.no_grad():
        planes = layer.stencils(torch.randn(16, 64, 34, 34))
        weight = layer.pointwise.weight.view(512, 64, 5)
        sizes = [
            torch.einsum("oc,nchw->nohw", weight[:, :, index], planes[:, index::5]).std()
            for index in range(5)
        ]
    assert max(sizes) / min(sizes) < 1.05  # of 32 768 drawn weights each; unscaled 6
