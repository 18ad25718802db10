"""``compile``: a model in, a compiled model out. The order of the steps is `relay_passes.pipeline`'s."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.layer_names import layer_name, named_layers
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.graph.source_values import name_values, note_values, source_values
from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall, recorded_calls
from tvm_fastconv.relay_passes.module.dump_ir import with_dumps
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Planner

from .artifact.artifact import amend_manifest, read_artifact
from .artifact.build import build_artifact
from .artifact.c_compiler import find_compiler
from .artifact.manifest import CallRecord
from .errors import FastconvError, ModelError
from .frontend import import_model
from .machine_files import target_and_machine
from .method_patterns import Methods, resolve_methods
from .notices import notify
from .report import LayerReport
from .runtime.compiled_model import CompiledModel
from .runtime.threads import default_threads, use_threads
from .temporary import temporary_folder
from .tvm_log import quiet_tvm
from .verify import Source, obstacle_to_verifying, verify_graph
from .verify import verify as verify_compiled
from .verify.compare import largest_difference
from .verify.output_errors import with_output_errors
from .verify.relax_slices import RelaxSlices
from .verify.torch_nodes import TorchNodes

NOTABLE = 1e-3
"""Change of the largest output, relative to it, from which on a warning is worth reading."""


@quiet_tvm()
def compile(
    model: Any,
    example_inputs: Any = None,
    *,
    target: str | Path | tvm.target.Target = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    verify: bool = True,
    dump_ir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompiledModel:
    """Compile a CNN for one target.

    Parameters
    ----------
    model : nn.Module, ExportedProgram, str or Path
        A string is a ``.pt2`` or ``.onnx`` file, ``"package.module:factory"`` or ``"file.py:factory"``. A factory is
        code and is run; a file is data, and nothing in it is executed.
    example_inputs : Tensor, ndarray or tuple of them, optional
        Needed for a module; they fix the shapes, and verification runs on them.
    target : str, Path or Target
        ``"native"``, an LLVM triple with options (``"x86_64-linux-gnu -mcpu=haswell"``), a TVM tag, or a ``.json`` file
        that ``fastconv targets --measure`` wrote.
    machine : Machine, str or Path, optional
        What to assume of the processor in place of the table's row for ``target``: a row, or such a file.
    methods : config or mapping, optional
        What to do with which layers: one config, or shell-style patterns over layer names to configs. What is not
        named runs as what it is recognised as.
    verify : bool
        Compare the result with the source model on the example inputs before returning it.
    dump_ir : path, optional
        A folder to write the module to after every pass.
    progress : callable, optional
        Called with the name of each step as it begins.

    Returns
    -------
    CompiledModel
        Call it, or `CompiledModel.save` it. One for another machine can only be saved.

    Raises
    ------
    ModelError, TargetError, MethodError
        What was handed over cannot be compiled; the message says why.
    FastconvError
        The compiled model does not compute what the source computes; the message names the first layer that differs.
    """
    tell = progress or (lambda step: None)
    # Before constant folding runs anything: TVM's pool of this thread keeps the size it is made with.
    use_threads(default_threads(), tvm_ffi)
    resolved, row = target_and_machine(target, machine)
    planner = Planner(row)
    tell("importing")
    imported = import_model(model, example_inputs)
    _check_imported(imported.mod["main"])
    find_compiler(str(resolved.attrs["mtriple"]), None)
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
    canonical = run(pipeline.canonicalize(planner.machine), signed)
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
    fused = run([*pipeline.dispatch(planner, chosen), *pipeline.fuse()], approximated)
    layers, calls = _reports(fused)
    called = [
        CallRecord(
            function=call.function,
            layer=call.layers[-1]["name"] if call.layers else None,
            reads=tuple(call.reads),
            inputs=tuple(call.inputs),
            is_output=call.is_output,
        )
        for call in calls
    ]
    _check_lowered(fused["main"])
    scheduled = run(pipeline.schedule_passes(resolved, planner.machine), fused)
    obstacle = obstacle_to_verifying(imported.example_inputs, resolved) if verify else "not asked for"
    if lossy and imported.program and not obstacle:
        # What came before the approximation is no more exempt than anything else.
        verify_graph(canonical, TorchNodes(imported.program, turned), imported.example_inputs or (), resolved)
    expected = None if obstacle else source.run(*imported.example_inputs or ())
    if expected is not None and turned and imported.reference is not None:
        _warn_of_zeros(largest_difference(expected, imported.reference(*imported.example_inputs or ())))
    with temporary_folder() as folder:
        path = folder / "model.so"
        tell("generating code")
        with _compiling(resolved):
            build_artifact(
                scheduled,
                resolved,
                path,
                input_names=imported.input_names,
                output_names=imported.output_names,
                layers=layers,
                calls=called,
                notices=imported.notices,
                verify=obstacle,
                reference_pair=None if expected is None else (imported.example_inputs or (), expected),
            )
        compiled = CompiledModel(read_artifact(path))
        if expected is None:
            return compiled
        tell("verifying")
        verdict = verify_compiled(compiled, source, imported.example_inputs or (), calls)
        errors = [replace(layer, error=verdict.errors.get(layer.name)) for layer in layers]
        amend_manifest(path, verify=verdict.line(source, compiled.check()), layers=tuple(errors))
        return CompiledModel(read_artifact(path))


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
        raise ModelError(f"no CPU code can be made for the operators {', '.join(dict.fromkeys(left))}")


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


def _warn_of_zeros(change: float) -> None:
    if change > NOTABLE:
        notify(
            f"that sign(0) is +1 changes the outputs on the example inputs by {change:.0e} of the largest: values in "
            "front of a sign are exactly 0. Write torch.where(x >= 0, 1.0, -1.0) in the model to train it alike"
        )


class _Runner:
    """Runs passes one list after the other, with dumps if there is a folder for them."""

    def __init__(self, target: tvm.target.Target, folder: Path | None) -> None:
        self.target, self.folder, self.done = target, folder, 0

    def __call__(self, passes: pipeline.Passes, mod: tvm.IRModule) -> tvm.IRModule:
        count = len(passes)
        if self.folder is not None:
            passes = with_dumps(passes, self.folder, first=self.done)
        self.done += count
        with _compiling(self.target):
            return tvm.transform.Sequential(passes)(mod)


@contextlib.contextmanager
def _compiling(target: tvm.target.Target) -> Iterator[None]:
    """What every step of TVM's runs under; its failures, and those of our passes in it, become one message."""
    try:
        with target, tvm.transform.PassContext(opt_level=3, config=pipeline.PASS_CONFIG):
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


def _reports(fused: tvm.IRModule) -> tuple[list[LayerReport], list[RecordedCall]]:
    """The layers of a fused module, and its calls."""
    layers, calls = [], recorded_calls(fused)
    for fields in (fields for call in calls for fields in call.layers if "method" in fields):
        shapes = {key: tuple(fields[key]) for key in ("input_shape", "output_shape")}
        layers.append(LayerReport(**{**fields, **shapes}))
    return layers, calls
