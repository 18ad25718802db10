"""Layer names, unsupported operators and weights of imported PyTorch programs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from torch import nn
from tvm import relax

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model

from ...close import assert_close


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([F.relu(self.relu(self.bn(self.conv(self.relu(x)))) + x), x], 1)[:, :4]


class Net(nn.Module):
    """Shared blocks, functional calls in a block and in the model itself, a linear layer on four axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = Block()
        self.body = nn.Sequential(self.block, nn.MaxPool2d(2))
        self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.block(self.stem(x)))
        x = F.relu(F.conv2d(x, self.weight))
        x = F.conv2d(x, self.weight)
        return self.fc(self.fc(x.permute(0, 2, 3, 1)))


def test_every_call_carries_the_path_of_its_innermost_module(calls: Callable) -> None:
    found = calls(import_model(Net().eval(), torch.randn(1, 3, 8, 8)))
    assert found == [
        *((op, "stem") for op in ("nn.conv2d", "reshape", "add")),
        ("nn.relu", "block.relu"),
        *((op, "block.conv") for op in ("nn.conv2d", "reshape", "add")),
        ("nn.batch_norm", "block.bn"),
        ("nn.relu", "block.relu#2"),
        *((op, "block") for op in ("add", "nn.relu", "concat", "strided_slice")),
        ("nn.relu", "body.0.relu"),
        *((op, "body.0.conv") for op in ("nn.conv2d", "reshape", "add")),
        ("nn.batch_norm", "body.0.bn"),
        ("nn.relu", "body.0.relu#2"),
        *((op, "body.0") for op in ("add", "nn.relu", "concat", "strided_slice")),
        ("nn.max_pool2d", "body.1"),
        ("nn.conv2d", "conv2d_3"),  # what the model calls itself is named as in the exported graph
        ("nn.relu", "relu_6"),
        ("nn.conv2d", "conv2d_4"),
        ("permute_dims", "permute"),
        *((op, "fc") for op in ("permute_dims", "matmul", "add")),
        *((op, "fc#2") for op in ("permute_dims", "matmul", "add")),
    ]


def test_two_calls_of_one_block_are_numbered_and_names_survive_a_file(calls: Callable, tmp_path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(self.block(x))

    program = torch.export.export(Twice().eval(), (torch.randn(1, 4, 5, 5),))
    torch.export.save(program, tmp_path / "twice.pt2")
    names = [layer for _, layer in calls(import_model(tmp_path / "twice.pt2"))]
    assert names == [layer for _, layer in calls(import_model(program))]
    assert list(dict.fromkeys(names)) == [
        "block.relu", "block.conv", "block.bn", "block.relu#2", "block",
        "block.relu#3", "block.conv#2", "block.bn#2", "block.relu#4", "block#2",
    ]  # fmt: skip


def test_a_decomposed_function_of_the_model_itself_is_one_layer(calls: Callable) -> None:
    class Products(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bchw,bdhw->bcd", x, x)

    assert {layer for _, layer in calls(import_model(Products().eval(), torch.randn(1, 4, 5, 5)))} == {
        "einsum"
    }


def test_all_unsupported_operators_are_listed_with_their_layers() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    model = nn.Sequential(nn.Sequential(Odd(), nn.ReLU()), nn.FractionalMaxPool2d(2, output_size=2), Odd())
    with pytest.raises(ModelError) as raised:
        import_model(model.eval(), torch.randn(1, 3, 6, 6))
    lines = str(raised.value).splitlines()
    assert lines[0] == "unsupported operators:"
    assert "  aten.linalg_inv.default in layers '0.0', '2'" in lines
    assert any(line.endswith("in layer '1'") for line in lines)


def copy_of(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@pytest.mark.parametrize("name", ["mystery", "relu"])
def test_custom_operators_are_listed_even_under_the_name_of_a_known_one(name: str) -> None:
    operator = torch.library.custom_op(f"fastconv_tests::{name}", copy_of, mutates_args=())
    operator.register_fake(torch.empty_like)

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return operator(x)

    with pytest.raises(ModelError, match=rf"fastconv_tests.{name}.default in layer '{name}'"):
        import_model(Net().eval(), torch.randn(1, 3))


def test_a_failing_converter_is_named() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.topk(x, 2, sorted=False)[0]

    with pytest.raises(
        ModelError, match=r"cannot import aten.topk.default in layer 'topk': Currently supports"
    ):
        import_model(Net().eval(), torch.randn(1, 3))


def constants(mod: tvm.IRModule) -> list[np.ndarray]:
    found = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, tvm.ir.GenericConst):
            found.append(expr.value)

    relax.analysis.post_order_visit(mod["main"], visit)
    return found


def test_weights_become_constants_that_share_memory() -> None:
    layer = nn.Linear(64, 32, bias=False).eval()
    imported = import_model(layer, torch.randn(1, 64))
    (weight,) = constants(imported.mod)
    assert len(imported.mod["main"].params) == 1
    assert np.from_dlpack(weight).ctypes.data == layer.weight.data_ptr()


def test_weights_that_are_views_are_copied_in_order(run: Callable) -> None:
    layer = nn.Linear(5, 3, bias=False).eval()
    layer.weight = nn.Parameter(torch.randn(5, 3).t())  # strided
    layer.bias = nn.Parameter(torch.randn(4)[1:])  # aligned to 4 bytes only
    x = torch.randn(2, 5)
    assert_close(run(import_model(layer, x))[0], layer(x), 1e-6)  # float32 sums of 5 terms


class Negated(nn.Module):
    """A weight, a buffer and constants whose memory holds the opposite of their values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch._neg_view(torch.randn(2, 40)))
        self.register_buffer("buffer", torch.complex(torch.randn(2, 40), torch.randn(2, 40)).conj().imag)
        self.constant = torch._neg_view(torch.randn(2, 40))
        self.scale = torch._neg_view(torch.tensor(-0.1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = x + self.weight + self.buffer + self.constant
        zero = torch.zeros((), dtype=torch.int32)
        return total, torch.fake_quantize_per_tensor_affine(total, self.scale, zero, -8, 7), self.weight


def test_negated_views_are_read_as_such(run: Callable) -> None:
    model, x = Negated().eval(), torch._neg_view(torch.randn(2, 40))
    imported = import_model(model, x)
    want = [tensor.detach().resolve_neg().numpy() for tensor in model(x)]
    for got in (run(imported), imported.reference(*imported.example_inputs)):
        for ours, theirs in zip(got, want, strict=True):
            assert_close(ours, theirs, 1e-6)  # additions in another order
