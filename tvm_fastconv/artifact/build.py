"""The back half of the compiler: a scheduled Relax module becomes a file (see ``artifact`` for its layout).

The file is an ordinary TVM library. Plain TVM runs it with two lines and no part of this package; our checks are
skipped then::

    vm = tvm.relax.VirtualMachine(tvm.runtime.load_module("model.so"), tvm.cpu())
    y = vm["main"](tvm.runtime.tensor(x))

Files are deterministic: the same module, target and versions give the same bytes.
"""

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.extern_kernels import ExternKernels
from tvm_fastconv.relay_passes.module.plan_weights import WEIGHTS_ATTR
from tvm_fastconv.relay_passes.module.straight_line import StraightLine
from tvm_fastconv.topi.tir_pipeline import TIR_PIPELINE

from .. import __version__
from ..errors import ModelError
from ..gpu_targets import arches_of, is_cuda
from ..report import ALIGNMENT, LayerReport, StoredTensor, TensorSpec
from ..runtime.device import CUDA
from ..targets import architecture, cpu_features, spec_of, triple_of
from .artifact import abi_name, check_output_path, pad_manifest, read_artifact, replacing, seal
from .c_compiler import CCompiler, find_runtime_compiler
from .entry_source import call_workspace_bytes, calls_source, run_source
from .fatbin import pack_imports, source_kept
from .gpu_entry_source import gpu_entry_source
from .kernels import compile_kernels, entry_of
from .manifest import FORMAT_VERSION, CallRecord, Manifest, ReferencePair
from .weights_source import MANIFEST_FILE, REFERENCE_FILE, WEIGHTS_FILE, WEIGHTS_SYMBOL, weights_source

MAX_WEIGHT_BYTES = 2_000_000_000
"""Code reaches its data by signed 32-bit distances, and the weights lie between them."""

KERNELS_FILE = "kernels.o"

KERNEL_PREFIX = "fastconv_kernel_"
"""Of the C functions behind a compiled file's entry."""

Pair = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]


def build_artifact(
    mod: tvm.IRModule,
    target: tvm.target.Target,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    layers: Sequence[LayerReport],
    calls: Sequence[CallRecord],
    notices: Sequence[str],
    verify: str,
    reference_pair: Pair | None = None,
    cc: str | None = None,
    keep_cuda: Path | None = None,
    keep_kernels: Path | None = None,
) -> Manifest:
    """Compile a module to a file.

    Parameters
    ----------
    mod
        A fused and scheduled module: ``main`` takes the inputs, holds the weights as constants, calls PrimFuncs.
    target
        As ``resolve_target`` returns it.
    path
        Replaced at once when everything is done, left alone when anything fails.
    input_names, output_names
        One per parameter and result of ``main``.
    layers
        One record per layer.
    calls
        The PrimFuncs that ``main`` calls, in order. Lowering may drop some.
    notices, verify
        Lines for the manifest. ``amend_manifest`` can change them later.
    reference_pair
        Inputs and the outputs expected for them, bundled for ``CompiledModel.check``.
    cc
        C compiler command; by default the system's, or ``<triple>-gcc`` when the target is another machine.
    keep_cuda
        A folder for the CUDA source that the GPU's code was compiled from.
    keep_kernels
        A folder for the kernels' object file and the weights, where an entry function calls them.

    Raises
    ------
    ArtifactError
        When ``path`` cannot be written.
    ModelError
        When the weights are too large for one file.
    TargetError
        When there is no C compiler for the target.
    ValueError
        When ``main`` calls a PrimFunc that is not in ``calls`` at that place.
    """
    check_output_path(path)
    compiler = find_runtime_compiler(triple_of(target), cc)
    on_gpu = is_cuda(target)
    planned = tvm.transform.Sequential(pipeline.plan_weights(CUDA.type if on_gpu else None))(mod)
    entry = entry_of(planned, target)
    weights: Sequence[tvm.runtime.Tensor] = ()
    # A virtual machine copies the constants of its code to a GPU once, and a table's weights in each run.
    if captures := on_gpu and isinstance(entry, str):
        planned = mod
    else:
        weights = planned.attrs[WEIGHTS_ATTR]
    mod = planned
    inputs, outputs = specs_of(mod["main"], input_names, output_names)
    with target:
        lowered = flat = tvm.transform.Sequential(pipeline.lower())(mod)
        if captures:
            with tvm.transform.PassContext(config=pipeline.GRAPHS):
                lowered = tvm.transform.Sequential(pipeline.lower())(mod)
    own = {var.name_hint for var in mod.get_global_vars()}
    calls_made = _calls_made(flat["main"], own, calls)
    with replacing(path) as temporary:
        folder = temporary.parent
        weight_table = write_tensors(folder / WEIGHTS_FILE, [weight.numpy() for weight in weights])
        reference = _write_reference(folder / REFERENCE_FILE, reference_pair)
        ffi_version = importlib.metadata.version("apache-tvm-ffi")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            package_version=__version__,
            tvm_version=tvm.__version__,
            tvm_ffi_version=ffi_version,
            abi=abi_name(architecture(target), tvm.__version__, ffi_version),
            target=spec_of(target),
            cpu_features=cpu_features(target),
            inputs=inputs,
            outputs=outputs,
            layers=tuple(layers),
            calls=calls_made,
            weights=weight_table,
            reference=reference,
            verify=verify,
            notices=tuple(notices),
            virtual_machine=entry if isinstance(entry, str) else "",
            workspace_bytes=_workspace_bytes(entry, (*inputs, *outputs), on_gpu),
            gpu_arches=arches_of(target) if on_gpu else (),
        )
        (folder / MANIFEST_FILE).write_bytes(pad_manifest(manifest))
        sections, objects = weights_source(weight_table), ["sections.o"]
        if isinstance(entry, StraightLine) and on_gpu:
            functions = {var.name_hint: func for var, func in flat.functions.items()}
            sections += gpu_entry_source(entry, functions, weight_table, len(inputs), len(outputs))
        elif isinstance(entry, StraightLine):
            start = WEIGHTS_SYMBOL if weight_table else "0"
            sections += run_source(entry, weight_table, KERNEL_PREFIX)
            sections += calls_source(entry, inputs, outputs, KERNEL_PREFIX, start)
            kernels = compile_kernels(mod, entry, target, KERNEL_PREFIX)
            kernels.module.write_to_file(str(folder / KERNELS_FILE), "o")
            lowered = tvm.transform.Sequential([ExternKernels()])(lowered)
            objects.append(KERNELS_FILE)
            if keep_kernels is not None:
                for name in (KERNELS_FILE, WEIGHTS_FILE):
                    shutil.copy(folder / name, keep_kernels)
        (folder / "sections.c").write_text(sections)
        os.replace(_link(lowered, target, folder, compiler, objects, keep_cuda), temporary)
        seal(temporary)
        manifest = read_artifact(temporary).manifest
    return manifest


def _workspace_bytes(entry: StraightLine | str, specs: Sequence[TensorSpec], on_gpu: bool) -> int:
    if isinstance(entry, str):
        return 0
    return entry.workspace_bytes if on_gpu else call_workspace_bytes(entry, specs)


def _link(
    lowered: tvm.IRModule,
    target: tvm.target.Target,
    folder: Path,
    compiler: CCompiler,
    addons: Sequence[str],
    keep_cuda: Path | None,
) -> Path:
    """Generate code and link it with ``sections.c`` and ``addons``, all in ``folder``; return the library."""
    output = folder / "linked.so"
    compiler.compile(folder, "sections.c", "sections.o")
    with source_kept() if is_cuda(target) else contextlib.nullcontext():
        executable = tvm.compile(lowered, target, relax_pipeline=None, tir_pipeline=TIR_PIPELINE)
    packing = {}
    if is_cuda(target):
        packing["fpack_imports"] = pack_imports(arches_of(target), keep_cuda)

    def link(_output: str, objects: list[str], options: Sequence[str] = ()) -> None:
        # A module without any PrimFunc comes as C source, with the include paths it needs.
        compiler.link(folder, [Path(name).name for name in objects], output.name, options)

    executable.mod.export_library(
        str(output),
        fcompile=link,
        addons=[str(folder / name) for name in addons],
        workspace_dir=str(folder),
        **packing,
    )
    return output


def specs_of(
    main: relax.Function, input_names: Sequence[str], output_names: Sequence[str]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of ``main``."""
    result = main.ret_ty
    results = list(result.fields) if isinstance(result, relax.TupleType) else [result]
    inputs = [_spec(name, var.ty) for name, var in zip(input_names, main.params, strict=True)]
    outputs = [_spec(name, ty) for name, ty in zip(output_names, results, strict=True)]
    return tuple(inputs), tuple(outputs)


def _spec(name: str, ty: relax.TensorType) -> TensorSpec:
    shape = tuple(int(d) if isinstance(d, tvm.tirx.IntImm) else str(d) for d in ty.shape)
    return TensorSpec(name=name, shape=shape, dtype=str(ty.dtype))


def _calls_made(main: relax.Function, own: set[str], calls: Sequence[CallRecord]) -> tuple[CallRecord, ...]:
    """Return those of ``calls`` that the lowered entry function still makes; a reshape may have become a view.

    Functions that are not the module's ``own`` were added by lowering, to compute shapes; they do not count.
    """
    found: list[str] = []

    def visit(expr: relax.Expr) -> None:
        called = expr.op if isinstance(expr, relax.Call) else None
        if isinstance(called, tvm.ir.GlobalVar) and called.name_hint in own:
            found.append(called.name_hint)

    relax.analysis.post_order_visit(main, visit)
    expected = iter(enumerate(calls))
    kept = [next((at for at, call in expected if call.function == function), None) for function in found]
    places = {at: place for place, at in enumerate(kept) if at is not None}
    if len(places) < len(found):
        named = [call.function for call in calls]
        raise ValueError(f"main calls {found}, which is not in this order in calls: {named}")

    def through_views(call: CallRecord) -> Iterator[CallRecord]:
        """``call`` and the dropped ones that it reads, one behind the other."""
        yield call
        for at in call.reads:
            if at not in places:
                yield from through_views(calls[at])

    made = {}
    for at in places:
        seen = list(through_views(calls[at]))
        reads = {places[other] for call in seen for other in call.reads if other in places}
        inputs = {place for call in seen for place in call.inputs}
        made[at] = replace(calls[at], reads=tuple(sorted(reads)), inputs=tuple(sorted(inputs)))
    for call in (call for at, call in enumerate(calls) if at not in places and call.is_output):
        for other in (other for seen in through_views(call) for other in seen.reads if other in places):
            made[other] = replace(made[other], is_output=True)
    return tuple(made.values())


def _write_reference(path: Path, pair: Pair | None) -> ReferencePair | None:
    if pair is None:
        path.write_bytes(b"")
        return None
    inputs, outputs = pair
    table = write_tensors(path, [np.asarray(array) for array in (*inputs, *outputs)])
    return ReferencePair(inputs=table[: len(inputs)], outputs=table[len(inputs) :])


def write_tensors(path: Path, arrays: Sequence[np.ndarray]) -> tuple[StoredTensor, ...]:
    """Write arrays one after the other, each at a multiple of ``ALIGNMENT``, and return where they are."""
    table, offset = [], 0
    with open(path, "wb") as file:
        for array in arrays:
            table.append(StoredTensor(offset=offset, shape=tuple(array.shape), dtype=array.dtype.name))
            file.write(np.ascontiguousarray(array).data.cast("B") if array.nbytes else b"")
            offset += array.nbytes
            offset += file.write(bytes(-offset % ALIGNMENT))
    if offset > MAX_WEIGHT_BYTES:
        raise ModelError(f"the weights take {offset} bytes; one file holds up to {MAX_WEIGHT_BYTES}")
    return tuple(table)
