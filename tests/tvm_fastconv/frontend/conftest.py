"""What the frontend's tests share: plain TVM runs what was imported, and every call is listed with its layer."""

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.frontend import ImportedModel
from tvm_fastconv.relay_passes.graph.layer_names import layer_name


@pytest.fixture
def run() -> Callable[..., tuple[np.ndarray, ...]]:
    """``run(imported, *inputs)``: the outputs, by TVM's default pipeline; no inputs take the example inputs."""

    def run_with_plain_tvm(imported: ImportedModel, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        machine = relax.VirtualMachine(tvm.compile(imported.mod, "llvm"), tvm.cpu())
        result = machine["main"](*map(tvm.runtime.tensor, inputs or imported.example_inputs))
        outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        return tuple(output.numpy() for output in outputs)

    return run_with_plain_tvm


@pytest.fixture
def calls() -> Callable[[ImportedModel], list[tuple[str, str | None]]]:
    """``calls(imported)``: (operator without "relax.", layer name) of every call, in order."""

    def list_calls(imported: ImportedModel) -> list[tuple[str, str | None]]:
        bindings = [b for block in imported.mod["main"].body.blocks for b in block.bindings]
        found = [b.value for b in bindings if isinstance(b.value, relax.Call)]
        return [(call.op.name.removeprefix("relax."), layer_name(call)) for call in found]

    return list_calls
