"""``compile``: a model in, a compiled model out. The order of the steps is `relay_passes.pipeline`'s."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tvm

from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall, recorded_calls
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Records

from .artifact.artifact import amend_manifest, read_artifact
from .artifact.build import build_artifact
from .artifact.fatbin import kept_source
from .artifact.manifest import CallRecord
from .machine_files import target_and_machine
from .method_patterns import Methods
from .notices import notify
from .prepare import Prepared, compiling, prepare
from .record_files import RecordFiles, records_for
from .report import LayerReport
from .runtime.compiled_model import CompiledModel
from .targets import require_runtime
from .temporary import temporary_folder
from .tvm_log import quiet_tvm
from .verify import obstacle_here, obstacle_to_verifying, verify_graph
from .verify import verify as verify_compiled
from .verify.compare import largest_difference
from .verify.emulated import Emulated, EmulatorError, emulator_for
from .verify.torch_nodes import TorchNodes
from .verify.trace import Arrays, Trace, trace

NOTABLE = 1e-3
"""Change of the largest output, relative to it, from which on a warning is worth reading."""


@quiet_tvm()
def compile(
    model: Any,
    example_inputs: Any = None,
    *,
    target: str | Path | tvm.target.Target | Mapping[str, Any] = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    records: RecordFiles = None,
    threads: int | None = None,
    weight_growth: float = math.inf,
    allow_tf32: bool = False,
    verify: bool = True,
    dump_ir: str | Path | None = None,
    keep_cuda: str | Path | None = None,
    cc: str | None = None,
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
        ``"native"``, an LLVM triple with options (``"x86_64-linux-gnu -mcpu=haswell"``), ``"cuda"``, alone or with
        ``-arch=sm_90``, a TVM tag, or a ``.json`` file that ``fastconv targets --measure`` wrote.
    machine : Machine, str or Path, optional
        What to assume of the processor in place of the table's row for ``target``: a row, or such a file.
    methods : config or mapping, optional
        What to do with which layers: one config, or shell-style patterns over layer names to configs. What is not
        named runs as what it is recognised as.
    records : path or sequence of paths, optional
        Files of `tune`; of several that know a layer, the last is believed. By default those that the environment
        variable ``FASTCONV_RECORDS`` names, with colons between them. ``"shipped"`` stands for the records that come
        with this package, of well-known networks on processors that could be measured. What was measured on the same
        CPU, with the same threads and versions, replaces estimates.
    threads : int, optional
        That the result is to run with, and that its records were measured with; by default one for each core of this
        machine, and records of one thread for another machine.
    weight_growth : float, optional
        How many times as large as the model's all weights together may become for speed (Winograd's are larger): for
        devices with little memory. That they are read for each inference is part of every estimate, without this.
    allow_tf32 : bool
        On a GPU of compute capability 8.0 or more, let dense convolutions and linear layers round what they multiply to
        TF32, for its tensor cores, where that is faster by estimate: ten bits behind the point, where FP32 has 23, and
        sums in FP32. A layer in front of a sign, a comparison or a rounding stays in FP32, and so do bits and lookups.
    verify : bool
        Compare the result with the source model on the example inputs before returning it.
    dump_ir : path, optional
        A folder to write the module to after every pass.
    cc : str, optional
        Command of the C compiler that assembles and links, instead of ``$CC``, the system's, ``<triple>-gcc`` or zig's.
    keep_cuda : path, optional
        A folder to write the CUDA source of a GPU's kernels to.
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
    folder = None if keep_cuda is None else kept_source(keep_cuda, target)
    require_runtime(target_and_machine(target, machine)[0])
    prepared = prepare(
        model, example_inputs, target, machine, methods, dump_ir, tell, cc, weight_growth, allow_tf32
    )
    known = records_for(records, prepared.target, prepared.machine, threads)
    return compile_prepared(
        prepared, known, threads=threads, verify=verify, tell=tell, cc=cc, keep_cuda=folder
    )


def compile_prepared(
    prepared: Prepared,
    records: Records,
    *,
    threads: int | None = None,
    verify: bool = True,
    tell: Callable[[str], None] = lambda step: None,
    cc: str | None = None,
    keep_cuda: Path | None = None,
    then: Callable[[tvm.IRModule, CompiledModel], None] = lambda scheduled, compiled: None,
) -> CompiledModel:
    """The rest of `compile`, with what tuning found; ``then`` gets the scheduled module and its file, verified."""
    fused = prepared.dispatched(prepared.planner(records))
    imported, resolved, source = prepared.imported, prepared.target, prepared.source
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
    scheduled = prepared.scheduled(fused)
    obstacle = obstacle_to_verifying(imported.example_inputs) if verify else "not asked for"
    if prepared.lossy and imported.program and not obstacle:
        # What came before the approximation is no more exempt than anything else.
        unchanged = TorchNodes(imported.program, prepared.turned)
        verify_graph(prepared.canonical, unchanged, imported.example_inputs or (), resolved)
    expected = None if obstacle else source.run(*imported.example_inputs or ())
    if expected is not None and prepared.turned and imported.reference is not None:
        _warn_of_zeros(largest_difference(expected, imported.reference(*imported.example_inputs or ())))
    with temporary_folder() as folder:
        path = folder / "model.so"
        tell("generating code")
        unseen = obstacle_here(resolved)
        emulator = emulator_for(resolved) if unseen and not obstacle else None
        with compiling(resolved):
            build_artifact(
                scheduled,
                resolved,
                path,
                input_names=imported.input_names,
                output_names=imported.output_names,
                layers=layers,
                calls=called,
                notices=imported.notices,
                verify=obstacle or unseen,
                reference_pair=None if expected is None else (imported.example_inputs or (), expected),
                cc=cc,
                keep_cuda=keep_cuda,
                keep_kernels=folder if emulator else None,
            )
        compiled = CompiledModel(read_artifact(path), threads=threads)
        if expected is not None and (emulator is not None or not unseen):
            tell("verifying")
            examples, whole, where = imported.example_inputs or (), None, ""
            try:
                run: Callable[[Arrays], Trace] = partial(trace, compiled, calls=calls)
                if emulator is not None:
                    run = Emulated(scheduled, resolved, compiled.manifest, folder, calls, emulator, cc)
                    where = f" in {Path(emulator).name}"
                verdict = verify_compiled(compiled.manifest.outputs, run, source, examples, calls)
                whole = largest_difference(verdict.outputs, expected)
            except EmulatorError as error:
                amend_manifest(path, verify=f"{unseen}, and {error}")
            else:
                errors = [replace(layer, error=verdict.errors.get(layer.name)) for layer in layers]
                amend_manifest(path, verify=verdict.line(source, whole, where), layers=tuple(errors))
            compiled = CompiledModel(read_artifact(path), threads=threads)
            compiled.verified_error = whole
        then(scheduled, compiled)
        return compiled


def _warn_of_zeros(change: float) -> None:
    if change > NOTABLE:
        notify(
            f"that sign(0) is +1 changes the outputs on the example inputs by {change:.0e} of the largest: values in "
            "front of a sign are exactly 0. Write torch.where(x >= 0, 1.0, -1.0) in the model to train it alike"
        )


def _reports(fused: tvm.IRModule) -> tuple[list[LayerReport], list[RecordedCall]]:
    """The layers of a fused module, and its calls."""
    layers, calls = [], recorded_calls(fused)
    for fields in (fields for call in calls for fields in call.layers if "method" in fields):
        shapes = {key: tuple(fields[key]) for key in ("input_shape", "output_shape")}
        layers.append(LayerReport(**{**fields, **shapes}))
    return layers, calls
