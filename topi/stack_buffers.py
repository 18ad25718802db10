"""Small buffers of generated code on the stack: TVM takes each, be it one register, from its runtime in every task."""

import tvm
import tvm_ffi
from tvm import tirx

MOST_ON_STACK = 16384
"""Bytes of a function's buffers: threads of a C library may have as little as 128 KiB."""


@tvm.transform.module_pass(opt_level=0, name="StackBuffers")
class StackBuffers:
    """Keep buffers of functions for CPUs on the stack, as long as there is room for them.

    A module with kernels for a GPU is left alone: what its functions for the CPU allocate, the kernels read.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with such buffers annotated."""
        mod = mod.clone()
        functions = {var: func for var, func in mod.functions.items() if isinstance(func, tirx.PrimFunc)}
        if any(func.attrs["target"].kind.name != "llvm" for func in functions.values()):
            return mod
        for var, func in functions.items():
            mod.update_func(var, tirx.PrimFunc(func.params, _on_stack(func.body), func.ret_type, func.attrs))
        return mod


def _on_stack(body: tirx.Stmt) -> tirx.Stmt:
    room = MOST_ON_STACK

    def keep(op: tirx.AllocBuffer) -> tirx.AllocBuffer:
        nonlocal room
        if (size := _bytes(op.buffer)) > room:
            return op
        room -= size
        return tirx.AllocBuffer(
            op.buffer, {**op.annotations, "disable_lower_builtin": tirx.IntImm("bool", 1)}
        )

    return tvm_ffi.structural_map(body, (tirx.AllocBuffer, keep))


def _bytes(buffer: tirx.Buffer) -> int:
    """Of memory of a fixed size; of any other, more than there is."""
    dtype = tvm.DataType(str(buffer.dtype))
    total = -(-dtype.bits // 8) * dtype.lanes
    for extent in buffer.shape:
        if not isinstance(extent, tirx.IntImm):
            return MOST_ON_STACK + 1
        total *= int(extent)
    return total
