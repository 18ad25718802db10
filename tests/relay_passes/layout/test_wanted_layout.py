"""A kind of target says which layout it wants, and gets it."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.layout.plan_layout import PlanLayout
from tvm_fastconv.relay_passes.layout.wanted_layout import WANTED, wanted_layout
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import GENERIC

from ...processors import ROWS

ABACUS = Machine(lanes=4, registers=16, kind="abacus")


def _convolution() -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 2, 8, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(np.ones((4, 2, 3, 3), np.float32))))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()


def _planned(machine: Machine) -> tuple[list[str], str]:
    """The operators behind `pipeline.canonicalize`, and the layout of the convolution among them."""
    mod = tvm.transform.Sequential(pipeline.canonicalize(machine))(_convolution())
    values = [binding.value for block in mod["main"].body.blocks for binding in block.bindings]
    (layout,) = (str(value.attrs.data_layout) for value in values if op_name(value) == "nn.conv2d")
    return [name for name in map(op_name, values) if name], layout


@pytest.mark.parametrize(
    ("layout", "operators"),
    [("NHWC", ["permute_dims", "nn.conv2d", "permute_dims"]), ("NCHW", ["nn.conv2d"])],
)
def test_the_layout_that_a_kind_wants_is_planned(
    monkeypatch: pytest.MonkeyPatch, layout: str, operators: list[str]
) -> None:
    monkeypatch.setitem(WANTED, "abacus", layout)
    assert _planned(ABACUS) == (operators, layout)


def test_every_processor_wants_nhwc() -> None:
    machines = [*(level.machine for level in GENERIC), *ROWS.values()]
    assert {wanted_layout(machine.kind) for machine in machines} == {"NHWC"}


def test_a_kind_without_a_layout_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="no layout is known for targets of kind abacus; known: cuda, llvm"):
        pipeline.canonicalize(ABACUS)


def test_a_layout_that_cannot_be_planned_is_an_error() -> None:
    with pytest.raises(ValueError, match="layout 'NCHW16c' cannot be planned; allowed: NHWC, NCHW"):
        PlanLayout("NCHW16c")
