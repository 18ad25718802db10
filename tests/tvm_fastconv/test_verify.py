import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import te, tirx

import tvm_fastconv as fc
from tvm_fastconv import compiler
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.verify import first_difference


@tvm.transform.module_pass(opt_level=0, name="BreakFunction")
class BreakFunction:
    """Stands for a schedule with a bug: the function called ``name`` stores zeros."""

    def __init__(self, name: str) -> None:
        self.name = name

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        mod = mod.clone()
        var = mod.get_global_var(self.name)
        buffers = list(mod[var].params)
        tensors = [te.placeholder(b.shape, str(b.dtype), name=f"t{i}") for i, b in enumerate(buffers[:-1])]
        zeros = te.compute(buffers[-1].shape, lambda *at: tirx.const(0, "float32"), name="zeros")
        broken = te.create_prim_func([*tensors, zeros]).with_attr("tirx.is_scheduled", True)
        mod.update_func(var, broken)
        return mod


def test_names_the_first_layer_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )
    x = torch.randn(1, 3, 14, 14)
    names = {layer.name: call.function for layer, call in zip(*_layers_and_calls(model, x), strict=True)}
    original = pipeline.schedule_passes
    monkeypatch.setattr(
        compiler.pipeline, "schedule_passes", lambda target: [*original(target), BreakFunction(names["2"])]
    )
    with pytest.raises(fc.FastconvError, match=r"first in 2\. This is a bug"):
        fc.compile(model.eval(), x)
    assert fc.compile(model, x, verify=False).manifest.verify == "not asked for"


def _layers_and_calls(model: nn.Module, x: torch.Tensor) -> tuple[list, list]:
    compiled = fc.compile(model.eval(), x)
    return compiled.layers, [call for call in compiled.manifest.calls if call.layer]


def test_says_so_where_nothing_can_be_compared() -> None:
    model, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
    program = torch.export.export(model, (x,))
    program.example_inputs = None
    assert fc.compile(program).manifest.verify == "not verified: no example inputs"


def test_first_difference_allows_rounding_and_catches_nan() -> None:
    calls = [("f", "a"), ("view", None), ("g", None)]  # a view is a call that never runs

    def results(f: np.ndarray, g: np.ndarray) -> list[tuple[str, np.ndarray]]:
        return [("f", f), ("g", g)]

    want = results(np.ones(3), np.array([1.0, 1000.0]))
    assert first_difference(want, results(np.ones(3), np.array([1.1, 1000.0])), calls) is None
    assert first_difference(want, results(np.ones(3), np.array([9.0, 1000.0])), calls) == "g"
    assert first_difference(want, results(np.full(3, np.nan), want[1][1]), calls) == "a"
