"""A converter that makes another type than PyTorch is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from tvm import relax

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model
from tvm_fastconv.frontend.torch_import import RULES, Rule  # filled by then

WRONG: dict[str, tuple[Callable, str]] = {
    "dtype": (
        lambda op, emit: emit(relax.op.astype(op.input, "int32")),
        r"it is float32 \(2, 3\) in PyTorch and int32 \(2, 3\) here",
    ),
    "shape": (
        lambda op, emit: emit(relax.op.permute_dims(op.input, [1, 0])),
        r"it is float32 \(2, 3\) in PyTorch and float32 \(3, 2\) here",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_converter_that_makes_another_type_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, message = WRONG[what]
    monkeypatch.setitem(RULES, "silu.default", Rule(convert, keep=True))
    with pytest.raises(ModelError, match=f"cannot import aten.silu.default in layer 'silu': {message}"):
        import_model(nn.SiLU().eval(), torch.randn(2, 3))
