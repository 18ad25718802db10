"""``fc.compile`` from PyTorch to the answer of the loaded file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc
from tvm_fastconv.relay_passes import pipeline

from ..choices import ZEN_4, choices
from ..close import assert_close

TOLERANCE = 1e-5  # of the largest output: float32 sums in another order, a polynomial for exp good to 2e-7


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def _residual(channels: int) -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Hardswish()
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.body(x) + x)

    return Residual()


def _squeeze_excite(channels: int) -> nn.Module:
    class SqueezeExcite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 1)
            self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.silu(self.conv(x))
            return y * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))

    return SqueezeExcite()


def _shuffle(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 1), nn.ChannelShuffle(2), nn.Conv2d(2 * channels, 8, 3, groups=2)
    )


def _dense_block(channels: int, growth: int) -> nn.Module:
    class DenseBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [channels + i * growth for i in range(4)]
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
            self.convs = nn.ModuleList(
                nn.Sequential(nn.Conv2d(width, 2 * growth, 1), nn.Conv2d(2 * growth, growth, 3, padding=1))
                for width in widths[:-1]
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = [x]
            for norm, conv in zip(self.norms[:-1], self.convs, strict=True):
                parts.append(conv(F.relu(norm(torch.cat(parts, 1)))))
            everything = torch.cat(parts, 1)
            return F.relu(self.norms[-1](everything)) + F.max_pool2d(everything, 3, 1, 1)

    return DenseBlock()


PLANES = (2, 6, 12, 10)
MODELS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(6, 17, 3, padding=1), PLANES),
    "conv norm": (nn.Sequential(nn.Conv2d(6, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU6()), PLANES),
    "norm conv": (nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3)), PLANES),
    "norm padded conv": (nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, padding=1)), PLANES),
    "depthwise separable": (nn.Sequential(nn.Conv2d(6, 18, 5, 2, 2, groups=6), nn.Conv2d(18, 9, 1)), PLANES),
    "grouped": (nn.Conv2d(6, 12, (3, 1), stride=(1, 2), dilation=(2, 1), groups=3), PLANES),
    "transposed": (nn.ConvTranspose2d(6, 10, 3, stride=2, padding=1, output_padding=1), PLANES),
    "transposed, grouped": (nn.ConvTranspose2d(6, 12, 4, stride=3, groups=2, dilation=2), PLANES),
    "residual": (_residual(6), PLANES),
    "squeeze-excite": (_squeeze_excite(6), PLANES),
    "shuffle": (_shuffle(6), PLANES),
    "pools": (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 2), nn.AdaptiveAvgPool2d(2)), PLANES),
    "adaptive pool that divides nothing": (nn.AdaptiveAvgPool2d((5, 3)), PLANES),
    "classifier": (
        nn.Sequential(nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(640, 33), nn.Dropout(), nn.Softmax(1)), PLANES),
    "linear": (nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 10)), (3, 7, 20)),
    "softmax over a short axis": (nn.Softmax(1), PLANES),
    "layer norm": (nn.LayerNorm(40), (5, 40)),
    "group norm": (nn.Sequential(nn.Conv2d(6, 8, 1), nn.GroupNorm(4, 8)), PLANES),
    "attention": (Lambda(lambda q: torch.softmax(q @ q.transpose(1, 2) / 4, -1) @ q), (2, 9, 16)),
    "activations": (
        Lambda(lambda x: torch.sigmoid(x) + torch.tanh(3 * x) + torch.exp(x) + F.silu(x) + F.elu(x)), (3, 1001)),
    "exp far out": (Lambda(lambda x: torch.sigmoid(x * 60) + torch.exp(-x.abs() * 200)), (1, 500)),
    "upsample": (nn.Sequential(nn.Conv2d(6, 4, 1), nn.Upsample(scale_factor=2, mode="bilinear")), PLANES),
    "dense block": (_dense_block(6, 8), PLANES),
    "dense block of odd width": (_dense_block(6, 5), PLANES),
    "concat": (Lambda(lambda x: torch.cat([x, F.relu(x), x[:, :1]], 1)), PLANES),
    "transpose": (Lambda(lambda x: x.permute(0, 2, 3, 1)), (1, 33, 18, 20)),
    "pixel shuffle": (nn.Sequential(nn.Conv2d(6, 8, 1), nn.PixelShuffle(2)), PLANES),
    "no convolution at all": (Lambda(lambda x: (x * 2).sum(1)), (4, 5)),
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("name", MODELS)
def test_equals_pytorch(name: str) -> None:
    torch.manual_seed(0)
    model, shape = MODELS[name]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(shape)
    with torch.no_grad():
        want = model.eval()(x).numpy()
    got = fc.compile(model, x)(x.numpy())
    assert_close(got, want, TOLERANCE)


def test_reports_every_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten()
    )
    model.append(nn.Linear(8 * 36, 5))
    x = torch.randn(2, 3, 8, 8)
    compiled = fc.compile(model.eval(), x)
    chosen = choices(model, x, ZEN_4).layers
    assert [layer.name for layer in compiled.layers] == [layer.name for layer in chosen]
    assert [(layer.name, layer.method, layer.op) for layer in chosen] == [
        ("0", "dense", "conv2d"),
        ("2", "depthwise", "depthwise_conv2d"),
        ("4", "dense", "dense"),
    ]
    assert [layer.dense_macs for layer in compiled.layers] == [2 * 64 * 8 * 27, 2 * 36 * 8 * 9, 2 * 288 * 5]
    assert compiled.layers[0].input_shape == (2, 3, 8, 8)
    assert compiled.layers[0].output_shape == (2, 8, 8, 8)
    assert "verified against PyTorch" in compiled.manifest.verify


def test_two_compilations_write_the_same_bytes(tmp_path: Path) -> None:
    model, x = nn.Conv2d(3, 20, 3), torch.randn(1, 3, 9, 9)
    for name in ("a.so", "b.so"):
        fc.compile(model, x).save(tmp_path / name)
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


def test_methods_must_name_layers() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 4, 4)
    with pytest.raises(fc.MethodError, match=r"'layer9\*' matches no layer; the layers are 0"):
        fc.compile(model, x, methods={"layer9*": fc.Dense()})
    for wrong, advice in (
        ("bitserial", r"write fc\.Bitserial\(\)$"),
        (fc.Dense, r"write fc\.Dense\(\)$"),
        ("binary", r"known are fc\.Dense, fc\.Bitserial, .*, fc\.FixedStencil$"),
        ([1], r"known are fc\.Dense, fc\.Bitserial, .*, fc\.FixedStencil$"),
    ):
        with pytest.raises(fc.MethodError, match="is not a method; " + advice):
            fc.compile(model, x, methods={"0": wrong})  # type: ignore[dict-item]
    assert fc.compile(model, x, methods=fc.Dense()).layers[0].method == "dense"


@pytest.mark.native
def test_dynamic_batch() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)
    )
    program = torch.export.export(
        model.eval(),
        (torch.randn(2, 3, 8, 8),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},),
    )
    compiled = fc.compile(program)
    for batch in (1, 5, 40):  # more than the example's and more than the exported bound
        x = torch.randn(batch, 3, 8, 8)
        want = model(x).detach().numpy()
        assert_close(compiled(x.numpy()), want, TOLERANCE)


def test_nan_and_infinity_are_no_difference_where_pytorch_has_them_too() -> None:
    model = Lambda(lambda x: torch.log(x.masked_fill(x > 1, 0.0)))
    compiled = fc.compile(model, torch.linspace(-2, 2, 50))
    assert "verified against PyTorch" in compiled.manifest.verify


@pytest.mark.parametrize("function", [lambda x: torch.topk(x, 2)[0], lambda x: x.cumprod(1)])
def test_what_cannot_become_loops_is_named(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(fc.ModelError, match=r"no code can be made for the operators (topk|cumprod)"):
        fc.compile(Lambda(function), torch.randn(3, 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_takes_the_half_precision_inputs_it_was_compiled_for(dtype: torch.dtype) -> None:
    model, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8).to(dtype)
    with pytest.warns(UserWarning, match="it is compiled in float32"):
        compiled = fc.compile(model.to(dtype), x)
    want = model.float()(x.float()).detach().numpy()
    assert_close(compiled(x).numpy(), want, TOLERANCE)


def test_only_the_batch_may_be_dynamic() -> None:
    height = torch.export.Dim("height", min=8, max=64)
    program = torch.export.export(
        nn.Conv2d(3, 4, 3).eval(), (torch.randn(1, 3, 16, 16),), dynamic_shapes=({2: height},)
    )
    with pytest.raises(fc.ModelError, match="only the first axis, the batch, may be dynamic"):
        fc.compile(program)


def test_counts_a_transposed_convolution_by_its_inputs() -> None:
    layer = fc.compile(nn.ConvTranspose2d(6, 4, 2, stride=2).eval(), torch.randn(1, 6, 5, 7)).layers[0]
    assert layer.dense_macs == 5 * 7 * 6 * 4 * 4
    assert layer.operations == 4 * layer.dense_macs  # it runs over the zeros between the pixels too


def test_a_form_that_no_schedule_takes_runs_as_plain_loops() -> None:
    model = Lambda(lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])).float() + x)
    x = torch.randn(3, 50)
    np.testing.assert_array_equal(fc.compile(model, x)(x.numpy()), model(x).numpy())


def test_what_tvm_itself_refuses_is_one_message() -> None:
    with pytest.raises(fc.ModelError, match=r"TVM cannot compile this model: .*Divide by zero"):
        fc.compile(Lambda(lambda x: x / (x * 0)), torch.randn(4))


def test_whatever_a_pass_raises_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    @tvm.transform.module_pass(opt_level=0)
    def broken(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        raise IndexError("line one\nlist index out of range")

    monkeypatch.setattr(pipeline, "canonicalize", lambda machine: [broken])
    with pytest.raises(
        fc.ModelError, match=r"^TVM cannot compile this model: .*list index out of range"
    ) as raised:
        fc.compile(nn.Conv2d(1, 2, 3).eval(), torch.randn(1, 1, 5, 5))
    assert "\n" not in str(raised.value)


def test_an_interrupt_inside_of_a_pass_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What calls back to Python makes a RuntimeError without words of it."""

    @tvm.transform.module_pass(opt_level=0, name="Interrupted")
    class Interrupted:
        def transform_module(self, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
            raise RuntimeError

    monkeypatch.setattr(pipeline, "simplify", lambda: [Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        fc.compile(nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8))
