"""What is chosen for a processor that is named, whichever this one is: every pass runs, and no code is made."""

from typing import Any, NamedTuple

import tvm

from tvm_fastconv.frontend import import_model
from tvm_fastconv.method_patterns import resolve_methods
from tvm_fastconv.relay_passes import PASS_CONFIG, pipeline
from tvm_fastconv.relay_passes.graph.layer_names import named_layers
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

ZEN_4 = "x86_64-linux-gnu -mcpu=znver4"
"""Where the numbers of the cost models were measured."""
HASWELL = "x86_64-linux-gnu -mcpu=haswell"


class Choice(NamedTuple):
    """How one layer is to run."""

    name: str
    method: str
    op: str
    reason: str
    operations: int


class Choices(NamedTuple):
    """The layers of a model, and the functions that it calls, in order."""

    layers: list[Choice]
    functions: list[str]


def choices(model: Any, inputs: Any, target: str, methods: Any = None, allow_tf32: bool = False) -> Choices:
    """Run all passes on ``model`` for ``target``, the schedules included."""
    resolved = resolve_target(target)
    planner = Planner(machine_of(resolved), allow_tf32=allow_tf32)
    mod = import_model(model, inputs).mod
    with resolved, tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        before = [
            *pipeline.simplify(),
            *pipeline.approximate_signs(),
            *pipeline.canonicalize(planner.machine),
        ]
        canonical = _run(before, mod)
        chosen = resolve_methods(methods, named_layers(canonical["main"]))
        passes = [*pipeline.approximate(chosen), *pipeline.dispatch(planner, chosen), *pipeline.fuse()]
        fused = _run(passes, canonical)
        _run(pipeline.schedule_passes(resolved, planner.machine), fused)
    calls = recorded_calls(fused)
    found = [layer for call in calls for layer in call.layers if "method" in layer]
    layers = [Choice(**{field: layer.get(field, "") for field in Choice._fields}) for layer in found]
    return Choices(layers, [call.function.removeprefix("fused_").rstrip("0123456789") for call in calls])


def _run(passes: pipeline.Passes, mod: tvm.IRModule) -> tvm.IRModule:
    return tvm.transform.Sequential(passes)(mod)
