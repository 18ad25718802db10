"""Exported programs: dtypes, batch, inputs and outputs, state, weights, the reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model

from ...close import assert_close


class Function(nn.Module):
    """A module around a function, with a weight and a buffer to use."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.register_buffer("table", torch.arange(4.0))
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


IMAGE = torch.randn(2, 3, 5, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("input_dtype", ["half", "float32"])
def test_half_precision_is_computed_in_float32_on_a_copy(
    dtype: torch.dtype, input_dtype: str, run: Callable
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softmax(1)).to(dtype).eval()
    x = IMAGE.to(dtype) if input_dtype == "half" else IMAGE
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(UserWarning, match=f"computes in {name}; it is compiled in float32"):
        imported = import_model(model, x)
    assert len(imported.notices) == 1
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert [array.dtype for array in imported.example_inputs] == [np.float32]
    want = model.float()(x.float()).detach().numpy()
    (got,), (reference,) = run(imported), imported.reference(*imported.example_inputs)
    assert_close(reference, want, 1e-6)  # PyTorch both times, on copies that may lie elsewhere
    assert_close(got, want, 2e-6)  # float32 sums of 27 terms, and exp
    assert got.dtype == np.float32


def test_a_half_precision_program_is_not_changed() -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3).half().eval(), (IMAGE.half(),))
    with pytest.warns(UserWarning, match="float16"):
        import_model(program)
    assert {tensor.dtype for tensor in program.state_dict.values()} == {torch.float16}
    assert program.example_inputs[0][0].dtype == torch.float16


def test_float64_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'weight' is float64; allowed: float32.*model.float\(\)"):
        import_model(nn.Conv2d(3, 4, 3).double().eval(), IMAGE.double())


def test_dynamic_batch(run: Callable) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ChannelShuffle(2), nn.InstanceNorm2d(8),
                nn.GroupNorm(2, 8), nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2),
            )  # fmt: skip
            self.row = nn.Conv1d(8, 8, 3)
            self.fc = nn.Linear(32, 5)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            first, second = self.body(x).chunk(2, 1)
            x = torch.cat([second, first], 1) * first.mean((1, 2, 3), keepdim=True)
            flat = F.adaptive_avg_pool2d(x, 2).view(x.size(0), -1)
            return self.fc(flat), self.row(x.flatten(2)), x[:, -1], F.softmax(x.reshape(-1, 4), -1)

    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Net().eval(), (torch.randn(2, 3, 7, 7),), dynamic_shapes=({0: batch},))
    imported = import_model(program)
    assert str(imported.mod["main"].params[0].ty.shape) == "R.shape([batch, 3, 7, 7])"
    for count in (1, 5):
        x = np.random.default_rng(0).standard_normal((count, 3, 7, 7), dtype="float32")
        for got, want in zip(run(imported, x), imported.reference(x), strict=True):
            assert_close(got, want, 1e-5)  # instance norm divides small differences


def test_inputs_and_outputs_keep_names_and_order(run: Callable) -> None:
    class Net(nn.Module):
        def forward(
            self, left: torch.Tensor, unused: torch.Tensor, right: list[torch.Tensor]
        ) -> dict[str, Any]:
            return {"sum": left + right[1], "parts": [right[0] * 2, (left,)], "right": right[0] - left}

    inputs = (torch.ones(2), torch.zeros(3), [torch.full((2,), 3.0), torch.full((2,), 5.0)])
    imported = import_model(Net().eval(), inputs)
    assert imported.input_names == ("left", "unused", "right_0", "right_1")
    assert imported.output_names == ("sum", "parts_0", "parts_1_0", "right")
    expected = ([6, 6], [6, 6], [1, 1], [2, 2])
    for got, reference, want in zip(
        run(imported), imported.reference(*imported.example_inputs), expected, strict=True
    ):
        np.testing.assert_array_equal(got, np.float32(want))
        np.testing.assert_array_equal(reference, np.float32(want))


@pytest.mark.parametrize(
    "model", [nn.Identity(), nn.Sequential(), nn.Dropout()], ids=["identity", "empty", "dropout"]
)
def test_a_model_that_returns_its_input(model: nn.Module, run: Callable) -> None:
    imported = import_model(model.eval(), IMAGE)
    assert imported.output_names == ("output",)
    np.testing.assert_array_equal(run(imported)[0], IMAGE.numpy())


def test_tuples_are_numbered_and_a_weight_may_be_an_output(run: Callable) -> None:
    imported = import_model(Function(lambda self, x: (x + 1, self.table)), IMAGE)
    assert imported.output_names == ("output_0", "output_1")
    np.testing.assert_array_equal(run(imported)[1], np.arange(4, dtype="float32"))


def test_output_names_are_unique() -> None:
    imported = import_model(Function(lambda self, x: {"0": x * 2, "output_0": x + 1}), IMAGE)
    assert imported.output_names == ("output_0", "output_0_1")


def test_python_constants_among_the_outputs_are_left_out(run: Callable) -> None:
    model = Function(lambda self, x: {"y": x + 1, "aux": None, "count": 3, "z": x * 2})
    with pytest.warns(UserWarning, match="left out"):
        imported = import_model(model, IMAGE)
    assert imported.output_names == ("y", "z")
    assert [("aux" in n, "count" in n) for n in imported.notices] == [(True, False), (False, True)]
    for got, reference in zip(run(imported), imported.reference(IMAGE.numpy()), strict=True):
        np.testing.assert_array_equal(got, reference)


def test_a_model_without_inputs_or_outputs_is_refused() -> None:
    with pytest.raises(ModelError, match="the model has no inputs"):
        import_model(Function(lambda self: self.table * 2), ())
    with pytest.raises(ModelError, match="the model returns no tensor"):
        import_model(Function(lambda self, x: None), IMAGE)


def test_a_size_among_the_outputs_is_refused() -> None:
    program = torch.export.export(
        Function(lambda self, x: (x, x.shape[0])), (IMAGE,), dynamic_shapes=(({0: torch.export.Dim("n")},),)
    )
    with pytest.raises(ModelError, match="output_1' is a SymIntArgument; only tensors"):
        import_model(program)


def test_a_constant_input_of_a_program_is_refused() -> None:
    program = torch.export.export(Function(lambda self, x, factor: x * factor), (IMAGE, 3))
    with pytest.raises(ModelError, match="is the constant 3; only tensors are inputs"):
        import_model(program)


def test_state_is_refused_and_writing_to_an_input_reported() -> None:
    with pytest.raises(ModelError, match="writes to the buffer 'table'"):
        import_model(Function(lambda self, x: x + self.table.add_(1).sum()), IMAGE)
    with pytest.warns(UserWarning, match="changes its input 'input' in place"):
        imported = import_model(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()).eval(), IMAGE.clone())
    x = IMAGE.numpy().copy()
    imported.reference(x)
    np.testing.assert_array_equal(x, IMAGE.numpy())


def test_training_mode_in_a_program_is_refused() -> None:
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (IMAGE,))
    with pytest.raises(
        ModelError, match=r"batch_norm.* runs in training mode: export the model after model.eval"
    ):
        import_model(program)
    with pytest.raises(ModelError, match=r"give F.dropout training=self.training"):
        import_model(Function(lambda self, x: F.dropout(x)), IMAGE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(value: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).eval()
    model[1].weight.data[0, 1, 2, 0] = value
    model[2].bias.data[3] = value
    with pytest.raises(ModelError, match=r"NaN or infinite: '1.weight', '2.bias'$"):
        import_model(model, IMAGE)


def test_a_buffer_may_be_infinite_but_not_nan() -> None:
    model = Function(lambda self, x: x[:, 0, 0, :4] + self.table)
    model.table[0] = -torch.inf
    import_model(model, IMAGE)
    model.table[0] = torch.nan
    with pytest.raises(ModelError, match="'table'"):
        import_model(model, IMAGE)


def test_weights_without_data_are_refused() -> None:
    with pytest.raises(ModelError, match="'weight' has no data"):
        import_model(torch.export.export(nn.Conv2d(3, 4, 3, device="meta").eval(), (IMAGE.to("meta"),)))


def test_example_inputs_must_fit_the_program() -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (IMAGE,))
    np.testing.assert_array_equal(import_model(program).example_inputs[0], IMAGE.numpy())
    other = torch.zeros(2, 3, 5, 5)
    np.testing.assert_array_equal(import_model(program, other).example_inputs[0], other.numpy())
    with pytest.raises(
        ModelError, match=r"'input' is float32 \(1, 3, 5, 5\); the model takes float32 \(2, 3, 5, 5\)"
    ):
        import_model(program, other[:1])
    with pytest.raises(ModelError, match=r"'input' is int64 .*; the model takes float32"):
        import_model(program, other.long())
    with pytest.raises(ModelError, match=r"2 example inputs for 1 inputs \(input\)"):
        import_model(program, (other, other))


def test_a_program_without_example_inputs() -> None:
    program = torch.export.export(nn.ReLU().eval(), (IMAGE,))
    program.example_inputs = None
    assert import_model(program).example_inputs is None
