"""What ``compile`` and ``tune`` have in common: a model up to its operators, and those laid out for a target."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.layer_names import layer_name, named_layers
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.graph.source_values import name_values, note_values, source_values
from tvm_fastconv.relay_passes.module.dump_ir import with_dumps
from tvm_fastconv.topi.build_operator import PASS_CONFIG
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Planner, Records

from .artifact.c_compiler import find_compiler, find_runtime_compiler
from .artifact.cuda_compiler import find_cuda_compiler
from .configs import Method
from .errors import FastconvError, InputError, ModelError
from .frontend import import_model
from .frontend.imported_model import ImportedModel
from .gpu_targets import is_cuda, with_tf32
from .machine_files import target_and_machine
from .method_patterns import Methods, resolve_methods
from .runtime.threads import default_threads, use_threads
from .targets import triple_of
from .verify import Source
from .verify.output_errors import with_output_errors
from .verify.relax_slices import RelaxSlices
from .verify.torch_nodes import TorchNodes


@dataclass(frozen=True)
class Prepared:
    """A model up to where the planner is asked what runs.

    Attributes
    ----------
    imported : ImportedModel
    target : Target
    machine : Machine
    methods : dict
        What was asked of which layers.
    canonical, approximated : IRModule
        Before and after what was given up on request.
    source : Source
        What the result is to compute.
    lossy : bool
        Whether anything was given up.
    turned : frozenset of str
        The signs of the source that are +1 for 0.
    weight_growth : float
        How many times as large all weights may become.
    allow_tf32 : bool
        Whether dense layers may round factors to TF32.
    """

    imported: ImportedModel
    target: tvm.target.Target
    machine: Machine
    methods: dict[str, Method]
    canonical: tvm.IRModule
    approximated: tvm.IRModule
    source: Source
    lossy: bool
    turned: frozenset[str]
    weight_growth: float
    allow_tf32: bool
    _run: "_Runner"

    def planner(self, records: Records) -> Planner:
        """What decides for this target, with what tuning found."""
        return Planner(self.machine, records, self.allow_tf32)

    def dispatched(self, planner: Planner) -> tvm.IRModule:
        """The operators that ``planner`` chooses, fused, and not yet laid out."""
        passes = [*pipeline.dispatch(planner, self.methods, self.weight_growth), *pipeline.fuse()]
        fused = self._run(passes, self.approximated)
        _check_lowered(fused["main"])
        return fused

    def scheduled(self, fused: tvm.IRModule) -> tvm.IRModule:
        """What `dispatched` returned in loops, vectors and registers."""
        return self._run(pipeline.schedule_passes(self.target, self.machine), fused)


def prepare(
    model: Any,
    example_inputs: Any,
    target: str | Path | tvm.target.Target | Mapping[str, Any],
    machine: Machine | str | Path | None,
    methods: Methods | None,
    dump_ir: str | Path | None = None,
    tell: Callable[[str], None] = lambda step: None,
    cc: str | None = None,
    weight_growth: float = math.inf,
    allow_tf32: bool = False,
) -> Prepared:
    """Import a model and simplify it; arguments as for `compile`."""
    # Before constant folding runs anything: TVM's pool of this thread keeps the size it is made with.
    use_threads(default_threads(), tvm_ffi)
    resolved, row = target_and_machine(target, machine)
    _check_growth(weight_growth)
    if allow_tf32:
        resolved = with_tf32(resolved, row)
    tell("importing")
    imported = import_model(model, example_inputs)
    _check_imported(imported.mod["main"])
    find_compiler(triple_of(resolved), cc)
    find_runtime_compiler(triple_of(resolved), cc)
    if is_cuda(resolved):
        find_cuda_compiler()
    tell("optimising")
    run = _Runner(resolved, None if dump_ir is None else Path(dump_ir))
    # An exported upper bound of the batch would become the size of the memory plan, and a larger batch a crash.
    main = imported.mod["main"].without_attr("tir_var_upper_bound")
    plain = note_values(tvm.IRModule({"main": main}), source_values(imported.mod))
    plain = plain if imported.program else name_values(plain)
    simple = run(pipeline.simplify(), plain)
    signed = run(pipeline.approximate_signs(), simple)
    turned = _turned_signs(simple, signed)
    signed = name_values(signed) if turned and not imported.program else signed
    canonical = run(pipeline.canonicalize(row), signed)
    chosen = resolve_methods(methods, named_layers(canonical["main"]))
    approximated = run(pipeline.approximate(chosen), canonical)
    approximated = with_output_errors(canonical, approximated, imported.example_inputs)
    # What was given up on purpose is no error: the graph after it is what the file must compute.
    source: Source
    if lossy := not tvm_ffi.structural_equal(canonical["main"], approximated["main"]):
        approximated = name_values(approximated)
        what = "the graph with the approximations that were asked for"
        source = RelaxSlices(approximated, resolved, what, channel_axes=(1, -1))
    elif imported.program:
        source = TorchNodes(imported.program, turned)
    else:
        source = RelaxSlices(signed if turned else plain, resolved, "the imported graph", turned)
    return Prepared(
        imported,
        resolved,
        row,
        chosen,
        canonical,
        approximated,
        source,
        lossy,
        turned,
        weight_growth,
        allow_tf32,
        run,
    )


def _check_imported(main: relax.Function) -> None:
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    if not any(isinstance(value, relax.Call) for value in values):
        raise ModelError("the model is empty: it has no operator, its outputs are its inputs or constants")
    for param in main.params:
        if any(not isinstance(extent, tvm.tirx.IntImm) for extent in list(param.ty.shape)[1:]):
            raise ModelError(f"input {param.name}: only the first axis, the batch, may be dynamic")


def _check_lowered(main: relax.Function) -> None:
    """Every operator must have become loops by now."""
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    left = [
        f"{name} (in {layer_name(v) or 'the model'})"
        for v in values
        if (name := op_name(v)) and name != "call_tir"
    ]
    if left:
        raise ModelError(f"no code can be made for the operators {', '.join(dict.fromkeys(left))}")


def _turned_signs(simple: tvm.IRModule, signed: tvm.IRModule) -> frozenset[str]:
    """What the source calls the signs of ``simple`` that have become +1 for 0 in ``signed``."""
    values = source_values(simple)
    before, after = (
        {
            binding.var
            for block in mod["main"].body.blocks
            for binding in block.bindings
            if op_name(binding.value) == "sign"
        }
        for mod in (simple, signed)
    )
    return frozenset(values[var].name for var in before - after if var in values)


class _Runner:
    """Runs passes one list after the other, with dumps if there is a folder for them."""

    def __init__(self, target: tvm.target.Target, folder: Path | None) -> None:
        self.target, self.folder, self.done = target, folder, 0

    def __call__(self, passes: pipeline.Passes, mod: tvm.IRModule) -> tvm.IRModule:
        count = len(passes)
        if self.folder is not None:
            passes = with_dumps(passes, self.folder, first=self.done)
        self.done += count
        with compiling(self.target):
            return tvm.transform.Sequential(passes)(mod)


@contextlib.contextmanager
def compiling(target: tvm.target.Target) -> Iterator[None]:
    """What every step of TVM's runs under; its failures, and those of our passes in it, become one message."""
    try:
        with target, tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
            yield
    except FastconvError:
        raise
    except Exception as error:
        if type(error) is RuntimeError and not str(
            error
        ):  # what tvm_ffi makes of Ctrl-C inside a call back to Python
            raise KeyboardInterrupt from error
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ModelError(f"TVM cannot compile this model: {line}") from error


def _check_growth(times: float) -> None:
    if isinstance(times, bool) or not isinstance(times, int | float) or not times >= 1:
        raise InputError(f"weight_growth is {times!r}; allowed: 1 and more")
