"""Modules: the state they are left in, and example inputs and forwards that do not fit."""

import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model


class Function(nn.Module):
    """A module around a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())


def test_train_mode_is_compiled_as_eval_mode_and_left_alone() -> None:
    model, x = small_net(), torch.randn(2, 3, 5, 5)
    model[1].eval()  # a frozen batch norm stays frozen
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(UserWarning, match=r"train\(\) mode.*eval\(\) mode") as caught:
        imported = import_model(model, x)
    assert len(caught) == len(imported.notices) == 1
    assert [part.training for part in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    np.testing.assert_array_equal(imported.reference(x.numpy())[0], expected)


def test_the_mode_is_restored_when_tracing_fails() -> None:
    model = small_net()
    with pytest.raises(ModelError):
        import_model(model, torch.randn(2, 7, 5, 5))
    assert model.training


@pytest.mark.parametrize(
    "given", [torch.randn(1, 3, 5, 5), np.ones((1, 3, 5, 5), "float32")], ids=["torch", "numpy"]
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: [x]], ids=["bare", "tuple", "list"])
def test_example_inputs_come_in_any_form(given: Any, wrap: Any) -> None:
    imported = import_model(nn.ReLU().eval(), wrap(given))
    (array,) = imported.example_inputs
    np.testing.assert_array_equal(array, np.asarray(given))


BAD_INPUTS = {
    "missing": (None, "example inputs are missing"),
    "number": (3.0, "example inputs are a float; allowed: a tensor"),
    "dictionary": ({"x": torch.ones(1)}, "example inputs are a dict"),
    "scalar in tuple": ((torch.ones(1, 3, 5, 5), 2), "example input 1 is a int; only tensors"),
    "text": (("x",), "example input 0 is a str"),
    "zero size": (
        torch.ones(0, 3, 5, 5),
        "example input 0 has shape (0, 3, 5, 5): every size must be at least 1",
    ),
    "array of text": (np.array(["a"]), "example input 0 is an array of <U1"),
    "too many": (
        (torch.ones(1, 3, 5, 5),) * 2,
        "with these example inputs: too many positional arguments",
    ),
    "too few": ((), "cannot be traced with these example inputs: missing a required argument: 'input'"),
    "channels": (torch.ones(1, 4, 5, 5), "expected input[1, 4, 5, 5] to have 3 channels"),
    "complex": (
        torch.ones(1, 3, 5, 5, dtype=torch.complex64),
        "example input 0 is torch.complex64: complex numbers",
    ),
    "fake": (
        FakeTensorMode().from_tensor(torch.ones(1, 3, 5, 5)),
        "input 0 is a FakeTensor on cpu without data",
    ),
    "meta": (torch.ones(1, 3, 5, 5, device="meta"), "example input 0 is a Tensor on meta without data"),
    "sparse": (
        torch.ones(1, 3, 5, 5).to_sparse(),
        "example input 0 is of layout torch.sparse_coo; only dense",
    ),
    "dtype": (torch.ones(1, 3, 5, 5, dtype=torch.float64), "cannot be traced with these example inputs"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused(name: str) -> None:
    given, message = BAD_INPUTS[name]
    with pytest.raises(ModelError, match=re.escape(message)):
        import_model(small_net().eval(), given)


def test_weights_without_data_are_refused() -> None:
    with FakeTensorMode():
        fake = small_net().eval()
    with pytest.raises(ModelError, match=r"weight' has no data .*fake.*: load the weights first"):
        import_model(fake, torch.ones(1, 3, 5, 5))


class Leaves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sys.exit(3)


def test_a_forward_that_exits_is_explained() -> None:
    with pytest.raises(ModelError, match=r"test_torch_export.py:\d+ \(sys.exit\(3\)\)"):
        import_model(Leaves().eval(), torch.ones(2))


def test_five_axes_are_allowed_where_nothing_convolves() -> None:
    assert import_model(nn.ReLU().eval(), torch.ones(1, 2, 3, 4, 5)).mod["main"].params[0].ty.ndim == 5


def test_a_scalar_tensor_is_an_input() -> None:
    imported = import_model(Function(lambda x: x * 2), torch.tensor(3.0))
    assert imported.example_inputs[0].shape == ()


def branch(x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else -x


BAD_FORWARDS = {
    "branch": (
        branch,
        r"test_torch_export.py:\d+ \(return x if x.sum\(\) > 0 else -x\): forward\(\) depends",
    ),
    "item": (lambda x: x.reshape(int(x.sum().item()), -1), r"test_torch_export.py:\d+ .*torch.where"),
    "numpy": (
        lambda x: torch.from_numpy(x.numpy() * 2),
        r"test_torch_export.py:\d+ .*numpy\(\) is not supported",
    ),
    "raises": (lambda x: x[9], r"test_torch_export.py:\d+ .*out of (range|bounds)"),
}


@pytest.mark.parametrize("name", BAD_FORWARDS)
def test_a_forward_that_cannot_be_traced_is_explained(name: str, capfd: pytest.CaptureFixture) -> None:
    function, message = BAD_FORWARDS[name]
    with pytest.raises(ModelError, match=message):
        import_model(Function(function), torch.ones(2, 4))
    assert capfd.readouterr() == ("", "")  # no graph of torch.export's either


def test_what_a_forward_prints_stays_off_stdout(capfd: pytest.CaptureFixture) -> None:
    import_model(Function(lambda x: (print("shape", x.shape), x + 1)[1]), torch.ones(2, 4))
    assert capfd.readouterr().out == ""
