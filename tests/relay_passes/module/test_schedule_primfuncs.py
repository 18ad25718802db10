import logging

import pytest
import torch
import tvm
from torch import nn
from tvm import te

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import graph_passes
from tvm_fastconv.relay_passes.module import schedule_primfuncs
from tvm_fastconv.relay_passes.module.schedule_primfuncs import SchedulePrimFuncs

from ..operators import HASWELL, PLANNER


def _scheduling() -> SchedulePrimFuncs:
    return SchedulePrimFuncs(HASWELL, PLANNER.machine)


def _named(operator: str) -> tvm.IRModule:
    x = te.placeholder((8,), "float32", name="x")
    attrs = {"fastconv.op": operator, "fastconv.knobs": "{}", "fastconv.layer": "{}"} if operator else {}
    return tvm.IRModule(
        {"f": te.create_prim_func([x, te.compute((8,), lambda i: x[i] + 1.0, name="y", attrs=attrs)])}
    )


def test_every_function_of_a_network_is_scheduled_for_the_target() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Softmax(1)).eval(), torch.randn(1, 3, 9, 9)
    with HASWELL:
        passes = [*graph_passes(PLANNER), _scheduling()]
        mod = tvm.transform.Sequential(passes)(import_model(model, x).mod)
    functions = [func for func in mod.functions.values() if isinstance(func, tvm.tirx.PrimFunc)]
    assert functions
    for func in functions:
        assert func.attrs["tirx.is_scheduled"]
    assert any("T.vectorized" in func.script() for func in functions)


def test_what_is_scheduled_stays() -> None:
    mod = _scheduling()(_named(""))
    tvm.ir.assert_structural_equal(_scheduling()(mod), mod)


def test_an_operator_without_a_template_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="operator telepathy has no template"):  # as TVM passes it on
        _scheduling()(_named("telepathy"))


def test_a_function_that_tvm_refuses_keeps_its_loops_unless_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot be tiled")

    monkeypatch.setattr(schedule_primfuncs, "schedule_primfunc", refuse)
    with caplog.at_level(logging.INFO):
        kept = _scheduling()(_named(""))["f"]
    assert "f keeps plain loops: cannot be tiled" in caplog.text
    tvm.ir.assert_structural_equal(kept.body, _named("")["f"].body, map_free_vars=True)
    with pytest.raises(RuntimeError, match="cannot be tiled"):
        _scheduling()(_named("conv2d"))
