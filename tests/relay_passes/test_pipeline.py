"""The pipeline as a TVM plugin: on modules that PyTorch never saw, through ``tvm.compile`` alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.frontend import nn

import tvm_fastconv as fc
from tvm_fastconv.relay_passes import PASS_CONFIG, graph_passes, pipeline, schedule_passes
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.relay_passes.module.dump_ir import with_dumps
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

from ..close import assert_close
from .evaluate import evaluate

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
PLANNER = Planner(machine_of(TARGET))


class Net(nn.Module):
    """Written with TVM's own frontend: weights are parameters of the function until they are bound."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, 12, 3, padding=1)
        self.second = nn.Conv2D(12, 12, 3, padding=1, groups=12)
        self.third = nn.Conv2D(12, 12, 3, padding=1, groups=12)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        y = nn.op.relu(self.first(x))
        return self.third(nn.op.relu(self.second(y)))


def _module(batch: int | str = 2) -> tvm.IRModule:
    mod, params = Net().export_tvm({"forward": {"x": nn.spec.Tensor([batch, 3, 9, 11], "float32")}})
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal([int(n) for n in p.shape], np.float32) for name, p in params}
    mod = relax.transform.BindParams("forward", values)(mod)
    main = mod["forward"].with_attr("global_symbol", "main")
    return tvm.IRModule({"main": main})


@pytest.mark.parametrize("batch", [2, "n"])
def test_compiles_a_foreign_module(batch: int | str) -> None:
    mod = _module(batch)
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 11), np.float32)
    with tvm.transform.PassContext(config=PASS_CONFIG):
        executable = tvm.compile(mod, TARGET, relax_pipeline="fastconv")
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    want = evaluate(mod, x)
    # 2e-6: sums of at most 27 terms in another order, three times
    assert_close(got, want, 2e-6)


def test_compiles_functions_of_any_names_and_number() -> None:
    functions = {name: _module()["main"].with_attr("global_symbol", name) for name in ("forward", "again")}
    mod = tvm.IRModule(functions)
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 11), np.float32)
    with tvm.transform.PassContext(config=PASS_CONFIG):
        executable = tvm.compile(mod, TARGET, relax_pipeline="fastconv")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    want = evaluate(_module(), x)
    for name in ("forward", "again"):
        assert_close(machine[name](tvm.runtime.tensor(x)).numpy(), want, 2e-6)  # as above
    with TARGET:
        fused = tvm.transform.Sequential(graph_passes(PLANNER))(mod)
    names = [[call.function for call in recorded_calls(fused, name)] for name in ("forward", "again")]
    assert names[0] == names[1]


def test_equal_layers_share_a_function_and_keep_their_names() -> None:
    with TARGET:
        fused = tvm.transform.Sequential(graph_passes(PLANNER))(_module())
    calls = [
        (call.function, layer["name"], layer["method"])
        for call in recorded_calls(fused)
        for layer in call.layers
    ]
    assert [name for _, name, _ in calls] == ["conv2d_1", "depthwise_conv2d_1", "depthwise_conv2d_2"]
    assert [method for _, _, method in calls] == ["dense", "depthwise", "depthwise"]
    functions = {function for function, _, _ in calls}
    assert functions <= {var.name_hint for var in fused.get_global_vars()}


def test_dumps_stand_between_the_passes(tmp_path: Path) -> None:
    passes = with_dumps(graph_passes(PLANNER), tmp_path / "ir")
    with TARGET:
        tvm.transform.Sequential(passes)(_module())
    files = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert len(files) == len(passes) // 2
    assert files[0] == "00_EliminateCommonSubexpr.py"
    assert files[-1].endswith("_CollectLayers.py")
    assert "conv2d" in (tmp_path / "ir" / files[0]).read_text()


def test_passes_leave_their_input_alone() -> None:
    mod = _module()
    with TARGET:
        for step in [*graph_passes(PLANNER), *schedule_passes(TARGET, PLANNER.machine)]:
            before = mod.clone()
            after = step(mod)
            assert tvm_ffi.structural_equal(mod, before), step.info.name
            mod = after


def test_the_map_in_the_readme_has_every_phase_in_order() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    drawn = readme.partition("```mermaid")[2].partition("```")[0]
    for name in pipeline.phases(TARGET, PLANNER.machine):
        _, found, drawn = drawn.partition(name)
        assert found == name


def test_what_compile_runs_is_the_map(tmp_path: Path) -> None:
    """The dumps of ``fc.compile``, one after every pass up to the schedules, are those of the phases, in order."""
    model = torch.nn.Conv2d(4, 8, 3).eval()
    fc.compile(model, torch.randn(1, 4, 6, 6), target="x86_64-linux-gnu", verify=False, dump_ir=tmp_path)
    dumped = [path.stem.partition("_")[2] for path in sorted(tmp_path.iterdir())]
    phases = pipeline.phases(TARGET, PLANNER.machine)
    graph = [name for name in phases if name not in ("plan weights", "lower")]
    assert dumped == [str(each.info.name) for name in graph for each in phases[name]]
