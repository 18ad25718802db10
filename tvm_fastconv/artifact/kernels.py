"""Scheduled functions as C functions: ``int prefix_name(T* a, T* b, …)``, 0 where all went well.

TVM's own convention packs every argument and checks it again in every call. Shapes are fixed here and memory is planned
once, so a call is a call. What parallel loops and large buffers need of a runtime is called through three pointers,
``__TVMBackendParallelLaunch`` and two of workspace: TVM's loader fills them in, or whoever links the code does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.tirx.build import codegen_build
from tvm_ffi import structural_walk

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.straight_line import NotStraightError, StraightLine, straight_line
from tvm_fastconv.topi.tir_pipeline import TIR_PIPELINE

from ..gpu_targets import is_cuda
from ..report import ALIGNMENT

_PACKED = ("MakePackedAPI", "FP8StorageLegalize", "BF16StorageLegalize")
"""Passes of TVM's pipeline that pack arguments, or insist on coming after that."""


@dataclass(frozen=True)
class Kernels:
    """Generated code.

    Attributes
    ----------
    module : Module
        Of LLVM.
    scratch_bytes : dict
        Workspace that one task of a function takes from the runtime at most, in parts that are aligned; by the names of
        those functions that take some.
    """

    module: tvm.runtime.Module
    scratch_bytes: dict[str, int]


def entry_of(
    mod: tvm.IRModule, target: tvm.target.Target, scratch_bytes: Mapping[str, int] | None = None
) -> StraightLine | str:
    """What the entry function of a scheduled module does, or why a virtual machine has to do it.

    ``scratch_bytes`` as for ``straight_line``.
    """
    try:
        main = tvm.transform.Sequential(pipeline.lower_calls())(mod)["main"]
        line = straight_line(main, scratch_bytes)
    except NotStraightError as error:
        return str(error)
    if is_cuda(target) and (line.copies or not line.calls):
        return "an output is no kernel's own"
    return line


def compile_kernels(
    mod: tvm.IRModule, entry: StraightLine, target: tvm.target.Target, prefix: str
) -> Kernels:
    """Generate code for the functions that ``entry`` calls; the names of the C functions begin with ``prefix``."""
    used = {call.function for call in entry.calls}
    functions = {var: func for var, func in mod.functions.items() if var.name_hint in used}
    return compile_functions(tvm.IRModule(functions), target, prefix)


def compile_functions(functions: tvm.IRModule, target: tvm.target.Target, prefix: str) -> Kernels:
    """Generate code for scheduled functions of fixed shapes; the names of the C functions begin with ``prefix``."""
    lower, finalize, _ = tirx.get_tir_pipeline(TIR_PIPELINE)
    config = dict(tvm.transform.PassContext.current().config)
    with tvm.transform.PassContext(opt_level=3, config=config, instruments=[_WithoutPacking()]):
        mod = lower(tirx.transform.BindTarget(target.with_host(target))(functions))
    named = {var.name_hint: _c_function(func, prefix + var.name_hint) for var, func in mod.functions.items()}
    mod = tirx.transform.FP8StorageLegalize()(tvm.IRModule(named))
    mod = finalize()(tirx.transform.BF16StorageLegalize()(mod))
    taken = {var.name_hint: _scratch_bytes(func) for var, func in mod.functions.items()}
    return Kernels(codegen_build(mod, target), {name: size for name, size in taken.items() if size})


@tvm.ir.instrument.pass_instrument
class _WithoutPacking:
    """Skips `_PACKED`."""

    def should_run(self, _mod: tvm.IRModule, info: tvm.transform.PassInfo) -> bool:
        return info.name.split(".")[-1] not in _PACKED


def _c_function(func: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    """Buffers become pointers."""
    pointers = [
        tirx.Var(buffer.name, tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.ty.dtype)), "global"))
        for buffer in func.params
    ]
    body = func.body
    for buffer in func.params:
        body = tirx.AttrStmt(buffer, "storage_alignment", tirx.IntImm("int32", ALIGNMENT), body)
    declared = [
        tirx.DeclBuffer(buffer, data=data) for buffer, data in zip(func.params, pointers, strict=True)
    ]
    # A tensor's memory begins where its pointer points to.
    offsets = [b.elem_offset for b in func.params if isinstance(b.elem_offset, tirx.Var)]
    declared += [tirx.Bind(offset, tirx.const(0, str(offset.ty.dtype))) for offset in offsets]
    # Behind the attributes: inside of them, buffers would be freed after it, which is never.
    body = tirx.SeqStmt([*declared, body, tirx.stmt.Return(tirx.IntImm("int32", 0))])
    for key, value in (("device_id", 0), ("device_type", 1)):
        body = tirx.AttrStmt(tvm.ir.StringImm("default"), key, tirx.IntImm("int32", value), body)
    made = tirx.PrimFunc(pointers, body, tvm.ir.PrimType("int32"), func.attrs)
    return made.with_attr("global_symbol", name).with_attr("calling_conv", 1)


def _scratch_bytes(func: tirx.PrimFunc) -> int:
    """What a function takes from the runtime: an upper bound, since not all of it lives at once."""
    sizes: list[int] = []

    def visit(call: tvm.ir.Call) -> None:
        if getattr(call.op, "name", "").endswith("TVMBackendAllocWorkspace"):
            sizes.append(int(call.args[2]))

    structural_walk(func.body, (tvm.ir.Call, visit))
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)
