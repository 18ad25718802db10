"""Every operator a CNN is made of, imported and run by plain TVM, against PyTorch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model

# Sums of up to a few hundred float32 terms, taken in another order; relative to the largest output.
TOLERANCE = 2e-6

IMAGE = (2, 4, 7, 9)
ROW = (2, 4, 9)


class Table(nn.Module):
    """Several layers or functions on one input, each one output."""

    def __init__(self, entries: dict[str, Callable]) -> None:
        super().__init__()
        self.entries = entries
        for index, entry in enumerate(entries.values()):
            if isinstance(entry, nn.Module):
                self.add_module(f"entry{index}", entry)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: entry(x) for name, entry in self.entries.items()}


def randomize(model: nn.Module) -> nn.Module:
    """Fill weights and statistics with positive and negative values (variances stay positive)."""
    torch.manual_seed(1)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(*((0.3, 1.3) if name.endswith("var") else (-1.0, 1.0)))
    return model.eval()


def mismatches(expected: dict[str, torch.Tensor], outputs: tuple[np.ndarray, ...]) -> dict[str, str]:
    """Say what is wrong with which output."""
    wrong = {}
    for (name, tensor), got in zip(expected.items(), outputs, strict=True):
        want = tensor.numpy()
        if want.shape != got.shape or want.dtype != got.dtype:
            wrong[name] = f"{got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
            continue
        error = np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), 1e-3)
        if not error <= TOLERANCE:
            wrong[name] = f"relative error {error:.1e}"
    return wrong


PLAIN_ACTIVATIONS = (
    "ReLU", "ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid", "SiLU", "GELU", "ELU", "CELU", "SELU", "PReLU",
    "LeakyReLU", "Sigmoid", "LogSigmoid", "Tanh", "Tanhshrink", "Softplus", "Softsign", "Softshrink", "Hardshrink",
    "Mish", "Softmax2d",
)  # fmt: skip

TABLES: dict[str, tuple[tuple[int, ...], dict[str, Callable]]] = {
    "convolutions": (
        IMAGE,
        {
            "plain": nn.Conv2d(4, 6, 3, padding=1),
            "no_bias": nn.Conv2d(4, 5, (3, 2), bias=False),
            "uneven": nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
            "depthwise": nn.Conv2d(4, 8, 3, groups=4),
            "same": nn.Conv2d(4, 3, 4, padding="same", dilation=(1, 2)),
            "valid": nn.Conv2d(4, 3, 3, padding="valid"),
            "reflect": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
            "circular": nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
            "weight_norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
            "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
            "transposed_groups": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=2, groups=2, dilation=2),
            "unbatched": nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(8, 2, 3)),
        },
    ),
    "row convolutions": (
        ROW,
        {
            "plain": nn.Conv1d(4, 6, 3, stride=2, padding=1),
            "groups": nn.Conv1d(4, 6, 3, dilation=2, groups=2),
            "same": nn.Conv1d(4, 6, 4, padding="same"),
            "transposed": nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
            "max_pool": nn.MaxPool1d(3, 2, 1, ceil_mode=True),
            "avg_pool": nn.AvgPool1d(3, 2, 1),
            "adaptive_avg": nn.AdaptiveAvgPool1d(4),
            "adaptive_max": nn.AdaptiveMaxPool1d(3),
            "batch_norm": nn.BatchNorm1d(4),
        },
    ),
    "products": (
        IMAGE,
        {
            "linear": nn.Linear(9, 3),
            "flat_linear": nn.Sequential(nn.Flatten(), nn.Linear(252, 5, bias=False)),
            "matmul": lambda x: x @ x.transpose(2, 3),
            "bmm": lambda x: torch.bmm(x[0], x[1].transpose(1, 2)),
            "mm": lambda x: torch.mm(x[0, 0], x[0, 1].t()),
            "addmm": lambda x: torch.addmm(x[0, 0, :, :7], x[0, 0], x[0, 1].t(), alpha=2, beta=0.5),
            "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
            "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
            "masked": lambda x: F.scaled_dot_product_attention(
                x, x, x, torch.ones(7, 7).tril().bool(), scale=0.3
            ),
            "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        },
    ),
    "norms": (
        IMAGE,
        {
            "batch": nn.BatchNorm2d(4),
            "batch_plain": nn.BatchNorm2d(4, affine=False),
            "batch_statistics": nn.BatchNorm2d(4, track_running_stats=False),
            "layer": nn.LayerNorm(9),
            "layer_planes": nn.LayerNorm((7, 9), elementwise_affine=False),
            "group": nn.GroupNorm(2, 4),
            "group_plain": nn.GroupNorm(2, 4, affine=False),
            "instance": nn.InstanceNorm2d(4, affine=True),
            "instance_tracked": nn.InstanceNorm2d(4, track_running_stats=True),
            "rms": nn.RMSNorm(9),
            "local_response": nn.LocalResponseNorm(3),
        },
    ),
    "activations": (
        IMAGE,
        {
            **{name: getattr(nn, name)() for name in PLAIN_ACTIVATIONS},
            "channel_prelu": nn.PReLU(4),
            "tanh_gelu": nn.GELU("tanh"),
            "steep_elu": nn.ELU(alpha=0.3),
            "steep_leaky": nn.LeakyReLU(0.3),
            "narrow_hardtanh": nn.Hardtanh(-0.3, 0.7),
            "softmax": nn.Softmax(1),
            "log_softmax": nn.LogSoftmax(-1),
            "glu": nn.GLU(1),
            "dropout": nn.Dropout2d(),
            "in_place": lambda x: (x + 1).relu_().mul_(2),
        },
    ),
    "pools": (
        IMAGE,
        {
            "max": nn.MaxPool2d(3, 2, 1),
            "max_ceil": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            "max_dilated": nn.MaxPool2d(2, 3, 1, dilation=2, ceil_mode=True),
            "max_positions_unused": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
            "avg": nn.AvgPool2d(3, 2, 1),
            "avg_ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
            "avg_ceil_no_padding": nn.AvgPool2d((2, 3), (3, 2), ceil_mode=True),
            "avg_ceil_uneven": nn.AvgPool2d((2, 3), (3, 2), (1, 0), ceil_mode=True),
            "avg_pixels": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            "avg_divisor": nn.AvgPool2d(3, 2, 1, divisor_override=5),
            "adaptive_avg": nn.AdaptiveAvgPool2d((3, 5)),
            "adaptive_avg_even": nn.AdaptiveAvgPool2d((7, 3)),
            "adaptive_avg_one": nn.AdaptiveAvgPool2d(1),
            "adaptive_avg_none": nn.AdaptiveAvgPool2d((None, 1)),
            "adaptive_avg_same": nn.AdaptiveAvgPool2d((7, 9)),
            "adaptive_max": nn.AdaptiveMaxPool2d((3, 5)),
            "adaptive_max_even": nn.AdaptiveMaxPool2d((1, 3)),
            "unbatched": nn.Sequential(nn.Flatten(0, 1), nn.MaxPool2d(2), nn.AvgPool2d(2)),
            "power": nn.LPPool2d(2, 2),
        },
    ),
    "padding and resizing": (
        IMAGE,
        {
            "constant": nn.ConstantPad2d((1, 2, 0, 1), 0.5),
            "cropping": lambda x: F.pad(x, (-1, 2, 1, -3)),
            "channels": lambda x: F.pad(x, (0, 1, 0, 0, 1, 2)),
            "reflect": nn.ReflectionPad2d((1, 2, 3, 0)),
            "replicate": nn.ReplicationPad2d((1, 2, 3, 0)),
            "circular": nn.CircularPad2d(1),
            "cropping_reflect": lambda x: F.pad(x, (-3, 6, 5, -4), "reflect"),
            "replicate of what is cropped away": lambda x: F.pad(x[:, :, :1], (1, 1, 3, -1), "replicate"),
            "cropping_replicate": lambda x: F.pad(x, (-3, 6, 5, -4), "replicate"),
            "cropping_circular": lambda x: F.pad(x, (-3, 6, 3, -4), "circular"),
            "nearest": nn.Upsample(scale_factor=2),
            "nearest_uneven": nn.Upsample(scale_factor=1.3),
            "nearest_down": nn.Upsample(size=(5, 4)),
            "nearest_exact": nn.Upsample(scale_factor=1.5, mode="nearest-exact"),
            "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
            "bilinear_uneven": nn.Upsample(scale_factor=1.3, mode="bilinear"),
            "bilinear_corners": nn.Upsample(size=(11, 4), mode="bilinear", align_corners=True),
            "bilinear_to_one": nn.Upsample(size=(1, 1), mode="bilinear", align_corners=True),
            "bilinear_to_row": nn.Upsample(size=(1, 5), mode="bilinear", align_corners=True),
            "bilinear_to_column": nn.Upsample(size=(11, 1), mode="bilinear", align_corners=True),
            "bilinear_from_one": lambda x: F.interpolate(
                x[:, :, :1, :1], size=(3, 1), mode="bilinear", align_corners=True
            ),
            "bilinear_factor": nn.Upsample(scale_factor=(1 / 7, 1), mode="bilinear", align_corners=True),
            "bicubic": nn.Upsample(size=(5, 13), mode="bicubic"),
            "bicubic_to_one": nn.Upsample(size=(1, 4), mode="bicubic", align_corners=True),
            "nearest_to_one": nn.Upsample(size=(3, 1)),
            "antialias": lambda x: F.interpolate(x, size=(4, 5), mode="bilinear", antialias=True),
            "grid": lambda x: F.grid_sample(
                x, torch.linspace(-1.2, 1.2, 120).reshape(2, 5, 6, 2), align_corners=False
            ),
            "unfold": nn.Unfold((2, 3), dilation=2, padding=1, stride=2),
            "fold": nn.Sequential(nn.Flatten(2), nn.Fold((8, 10), 2)),
        },
    ),
    "shapes": (
        IMAGE,
        {
            "cat": lambda x: torch.cat([x, x * 2], 1),
            "stack": lambda x: torch.stack([x, x * 2], -1),
            "chunk": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
            "split": lambda x: torch.cat(x.split((1, 3), 1)[::-1], 1),
            "unbind": lambda x: x.unbind(1)[2],
            "flatten": nn.Flatten(),
            "view": lambda x: x.view(x.size(0), -1, 3),
            "permute": lambda x: x.permute(0, 2, 3, 1).contiguous(),
            "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
            "channel_shuffle": nn.ChannelShuffle(2),
            "pixel_shuffle": nn.PixelShuffle(2),
            "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1) * x,
            "repeat": lambda x: x.repeat(1, 2, 1, 1),
            "slice": lambda x: x[:, :, 1:-1, ::2],
            "last": lambda x: x[:, -1],
            "second": lambda x: x[:, 1],
            "pick": lambda x: x[:, torch.tensor([3, -1, 0])],
            "pick_pixels": lambda x: x[:, :, torch.tensor([0, -1]), torch.tensor([[1], [2]])],
            "roll": lambda x: x.roll(1, 2),
            "flip": lambda x: x.flip(3),
            "write": lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1),
        },
    ),
    "arithmetic": (
        IMAGE,
        {
            "alpha": lambda x: torch.add(x, x * x, alpha=2) - torch.sub(x, 3, alpha=0.5),
            "scalars": lambda x: 1 - 2 * x / (x.abs() + 3),
            "square": lambda x: x**2,
            "cube": lambda x: x**3,
            "root": lambda x: x.abs() ** 0.5,
            "power": lambda x: (x.abs() + 0.1) ** -1.5,
            "floor_div": lambda x: torch.div(x, 2, rounding_mode="floor"),
            "trunc_div": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
            "clamp_below": lambda x: x.clamp_min(0.5),
            "clamp_above": lambda x: x.clamp(max=0.5),
            "clamp_crossed": lambda x: x.clamp(0.5, -0.5),
            "clamp_crossed_tensors": lambda x: x.clamp(torch.tensor(0.5), torch.tensor(-0.5)),
            "clamp_rows": lambda x: x.clamp(torch.full((9,), -0.3), torch.linspace(-0.5, 0.5, 9)),
            "sum": lambda x: x.sum((1, -1), keepdim=True),
            "mean": lambda x: x.mean((2, 3)),
            "var": lambda x: x.var(1),
            "std": lambda x: x.std((2, 3), unbiased=False),
            "amax": lambda x: x.amax((2, 3)),
            "amin": lambda x: x.amin(1, keepdim=True),
            "max": lambda x: x.max(1)[0],
            "argmax": lambda x: x.argmax(1),
            "norm": lambda x: x.norm(dim=1),
            "norm_1": lambda x: x.norm(p=1, dim=1, keepdim=True),
            "mask of a layer, padded": lambda x: F.pad(
                F.conv2d(x[:, :, :, :7], torch.ones(8, 4, 1, 1)) < 0.1, (0, 1)
            ),
            "chunk of a mask": lambda x: torch.chunk(x > 0.1, 2, 1)[1],
            "masks compared": lambda x: torch.cat(
                [(x > 0) != (x > 1), (x > 0) == (x > 1), (x > 0) < (x > 1)], 1
            ),
            "masks compared, too": lambda x: torch.cat(
                [(x > 0) >= (x > 1), torch.ne(x > 0, True), (x > 0) <= False]
            ),
            "integer powers of two": lambda x: x * 2 ** torch.arange(9),
            "powers of computed integers": lambda x: (
                3 ** (x.abs() * 2).int() + (x * 2).int() ** (x.abs() * 2).int()
            ),
            "constant running sum": lambda x: (
                F.conv2d(torch.ones(1, 4, 7, 9).cumsum(2), torch.ones(3, 4, 1, 1)) + x[:, :3]
            ),
            "norm_0": lambda x: x.relu().norm(p=0, dim=1),
            "integer power": lambda x: ((x * 3).int() ** 5) + (x * 3).int() ** 0,
            "integer to a float": lambda x: (x * 3).int() ** 2.0,
            "norm_inf": lambda x: x.norm(p=float("inf"), dim=1),
            "normalize": lambda x: F.normalize(x, dim=1),
            "sign": torch.sign,
            "binarize": lambda x: (x >= 0).float() * 2 - 1,
            "where": lambda x: torch.where(x >= 0, 1, -1),
            "where_scalar": lambda x: torch.where(x >= 0, x, torch.tensor(2.0, dtype=torch.float64)),
            "where_mixed": lambda x: torch.where(x >= 0, x, 2),
            "straight_through": lambda x: x.sign().detach() - x.clamp(-1, 1).detach() + x.clamp(-1, 1),
            "squeeze_excite": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
        },
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", TABLES)
def test_matches_pytorch_and_names_every_call(name: str, run: Callable, calls: Callable) -> None:
    shape, entries = TABLES[name]
    torch.manual_seed(0)
    model, x = randomize(Table(entries)), torch.randn(shape)
    imported = import_model(model, x)
    assert [op for op, layer in calls(imported) if not layer] == []
    assert imported.output_names == tuple(entries)
    with torch.no_grad():
        expected = model(x)
    assert mismatches(expected, run(imported)) == {}


def test_embedding_and_integer_images(run: Callable) -> None:
    embedding = nn.Sequential(nn.Embedding(5, 3), nn.Flatten())
    imported = import_model(embedding.eval(), torch.tensor([[0, 4], [2, 1]]))
    np.testing.assert_array_equal(run(imported)[0], imported.reference(*imported.example_inputs)[0])
    bytes_in = torch.randint(0, 255, (1, 3, 4, 4), dtype=torch.uint8)
    imported = import_model(Table({"scaled": lambda x: x.float() / 255}).eval(), bytes_in)
    np.testing.assert_array_equal(run(imported)[0], bytes_in.numpy().astype("float32") / np.float32(255))


# In each, PyTorch computes in another dtype than that of one of its operands.
PROMOTED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bool times float": lambda x: 2.0 * (x >= 0) - 1.0,
    "bool times int": lambda x: ((x >= 0) * 2 - 1).float(),
    "bool times tensor": lambda x: (x >= 0) * x,
    "bool plus bool": lambda x: (x >= 0) + (x >= 1).int(),
    "bool times bool": lambda x: (x >= 0) * (x < 1) + (x > 2),
    "int between fractions": lambda x: x.int().clamp(-0.5, 1.5),
    "int above": lambda x: x.int().clamp(min=1),
    "int between crossed": lambda x: x.int().clamp(2, -2),
    "int between tensors": lambda x: x.int().clamp(torch.tensor(-1), torch.tensor(1.5)),
    "float between int tensors": lambda x: x.clamp(torch.tensor(-1), torch.tensor(1)),
    "int plus float": lambda x: x.int() + 0.5,
    "largest of bool": lambda x: (x >= 2).amax(1),
    "least of bool": lambda x: (x >= -2).min(-1, keepdim=True)[0],
    "largest of all bool": lambda x: (x >= 100).max(),
    "product of bool": lambda x: (x >= -3).prod(1),
    "product of int": lambda x: x.int().prod(-1),
    "product of all": lambda x: (x > 5).prod(),
    "int exponential": lambda x: (x.int() % 3).exp(),
    "int reciprocal": lambda x: 1 / (x.int().abs() + 1),
    "int with a float's sign": lambda x: torch.copysign(x.int(), -1.0),
    "int rest of a float": lambda x: torch.fmod(x.int(), 0.75),
    "int any": lambda x: x.int().any(1),
    "int any of all": lambda x: x.int().any(),
    "byte any": lambda x: x.abs().to(torch.uint8).any(-1, keepdim=True),
    "float and int joined": lambda x: torch.cat([x.int(), x, x > 0], 1),
    "int joined": lambda x: torch.stack([x.int(), x.long()], 1),
    "bool padded": lambda x: F.pad(x >= 0, (1, 0), value=2),
    "int over int": lambda x: x.int() / 2,
    "int over int, floored": lambda x: torch.div(x.int(), 2, rounding_mode="floor"),
    "int over int, true": lambda x: torch.div(x.int(), 3),
    "int against float": lambda x: x.int() >= 0.5,
    "int to a fraction": lambda x: x.int().abs() ** 0.5,
    "float and float64 scalar": lambda x: x * torch.tensor(0.1, dtype=torch.float64),
}


RUNNING_SUMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels": lambda x: x.cumsum(1),
    "from the end": lambda x: x.cumsum(-2),
    "of integers": lambda x: x.int().cumsum(-1),
    "of a mask": lambda x: (x >= 0).cumsum(2),
    "of a mask, to float": lambda x: (x >= 0).cumsum(2, dtype=torch.float32),
    "of floats, to float64": lambda x: x.cumsum(0, dtype=torch.float64),
    "of floats, to int": lambda x: x.cumsum(0, dtype=torch.int32),
    "of a constant": lambda x: x + torch.ones(7, 9).cumsum(1),
    "of a scalar": lambda x: x.mean().cumsum(0),
}


def test_running_sums() -> None:
    model, x = Table(RUNNING_SUMS).eval(), 3 * torch.randn(IMAGE)
    assert mismatches(model(x), fc.compile(model, x)(x.numpy())) == {}


def test_a_long_running_sum_is_as_exact_as_pytorchs() -> None:
    x = torch.rand(1_000_000, 1)
    got = fc.compile(Table({"y": lambda x: x.cumsum(0)}).eval(), x)(x.numpy())
    # Float32 accumulators would be off by 1e-5 and more.
    np.testing.assert_allclose(got, x.double().cumsum(0), rtol=1e-7)


def test_dtypes_are_promoted(run: Callable) -> None:
    model, x = Table(PROMOTED).eval(), 3 * torch.randn(IMAGE)
    assert mismatches(model(x), run(import_model(model, x))) == {}


@pytest.mark.parametrize(
    ("layer", "operators"),
    [
        (nn.Conv2d(4, 3, 4, padding="same"), ["nn.conv2d", "reshape", "add"]),
        (nn.Linear(9, 3), ["permute_dims", "matmul", "add"]),
        (nn.ReLU6(), ["clip"]),
        (nn.Hardswish(), ["add", "clip", "multiply", "multiply"]),
        (nn.SiLU(), ["nn.silu"]),
        (nn.BatchNorm2d(4), ["nn.batch_norm"]),
        (nn.MaxPool2d(3, 2, ceil_mode=True), ["nn.max_pool2d"]),
        (nn.AdaptiveAvgPool2d(1), ["mean"]),
        (nn.AdaptiveAvgPool2d((7, 9)), []),
        (nn.Upsample(scale_factor=2), ["image.resize2d"]),
        (nn.ReflectionPad2d(1), ["nn.pad"]),
        (nn.ChannelShuffle(2), ["reshape", "permute_dims", "reshape"]),
        (nn.Dropout(), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_operators_are_the_ones_later_passes_know(
    layer: nn.Module, operators: list[str], calls: Callable
) -> None:
    assert [op for op, _ in calls(import_model(layer.eval(), torch.randn(IMAGE)))] == operators


def test_pools_carry_explicit_padding_instead_of_ceil_mode() -> None:
    imported = import_model(nn.MaxPool2d(3, 2, ceil_mode=True).eval(), torch.randn(1, 2, 8, 9))
    (pool,) = [b.value for b in imported.mod["main"].body.blocks[0].bindings if hasattr(b.value, "op")]
    assert not pool.attrs.ceil_mode
    assert list(pool.attrs.padding) == [0, 0, 1, 0]


REFUSED = {
    "conv3d": (nn.Conv3d(2, 2, 1), (1, 2, 3, 3, 3), "3-D convolution"),
    "max_pool3d": (nn.MaxPool3d(2), (1, 2, 3, 3, 3), "max_pool3d"),
    "positions": (nn.MaxPool2d(2, return_indices=True), IMAGE, "not their positions"),
    "mask": (Table({"y": lambda x: x[x > 0]}), IMAGE, "depends on the values"),
    "apart": (Table({"y": lambda x: x[torch.tensor([0]), :, torch.tensor([1])]}), IMAGE, "':' between"),
    "random": (Table({"y": lambda x: x + torch.rand_like(x)}), IMAGE, "aten.rand_like"),
    "complex": (Table({"y": lambda x: torch.fft.rfft2(x).abs()}), IMAGE, "aten.fft_rfft2"),
    "grouped_query": (
        Table({"y": lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True)}),
        IMAGE,
        "enable_gqa",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_it_cannot_do(name: str) -> None:
    model, shape, message = REFUSED[name]
    with pytest.raises(ModelError, match=f"(?s)unsupported operators:.*{message}"):
        import_model(model.eval(), torch.randn(shape))


def test_resizing_needs_a_fixed_image() -> None:
    size = torch.export.Dim("height", min=4, max=64)
    program = torch.export.export(
        nn.Upsample(scale_factor=2, mode="bilinear"), (torch.randn(1, 2, 8, 8),), dynamic_shapes=({2: size},)
    )
    with pytest.raises(ModelError, match="fixed height and width"):
        import_model(program)


def test_refuses_to_wrap_what_is_cropped_away() -> None:
    with pytest.raises(ModelError, match="wraps more than the 1 values that it leaves of axis 2"):
        import_model(Table({"y": lambda x: F.pad(x, (-1, 1, 2, -2), "circular")}), torch.randn(1, 2, 3, 3))
