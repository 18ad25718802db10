"""Move the constants of the entry function out of the executable, into a table that the file maps.

Constants inside TVM's executable are copied while it loads and cost four times their size. This pass puts in their
place a call of ``fastconv_weight(number)``, which the compiled file exports: it wraps the mapped memory as a tensor in
80 ns. Measured with 60 weights, a whole call costs 5 us more than with constants; weights as parameters cost 9 us more,
as one tuple 16 us. And a caller passes inputs only, so plain TVM, C++ and RPC run the file with no loader of ours.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

WEIGHT_FUNCTION = "fastconv_weight"
WEIGHTS_ATTR = "fastconv.weights"

TO_DEVICE = "vm.builtin.to_device"
"""Of TVM's runtime: a copy of a tensor in the memory of a device."""


@tvm.transform.module_pass(opt_level=0, name="PlanWeights")
class PlanWeights:
    """Replace every non-scalar constant of ``main`` by a call of ``fastconv_weight``; of a device's, also scalars.

    The tensors end up in the module's attribute ``fastconv.weights``, in the order of their first use; equal
    constants are one tensor.

    Parameters
    ----------
    device_type : int, optional
        DLPack's number of the device whose memory the virtual machine copies weights to, each time that it runs.
    """

    def __init__(self, device_type: int | None = None) -> None:
        self.device_type = device_type

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with weights lifted out of ``main``."""
        lifter = _Lifter(mod, self.device_type)
        main = mod.get_global_var("main")
        lifter.builder_.update_func(main, lifter.visit_expr(mod[main]))
        return lifter.builder_.get().with_attr(WEIGHTS_ATTR, lifter.weights)


@mutator
class _Lifter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, device_type: int | None) -> None:
        super().__init__(mod)
        self._device_type = device_type
        self.weights: list[tvm.runtime.Tensor] = []
        self._numbers: dict[tuple[tuple[int, ...], str], list[int]] = {}

    def visit_generic_const_(self, const: tvm.ir.GenericConst) -> relax.Expr:
        value = const.value
        # A scalar costs nothing in the executable; but a GPU's entry function passes on what lies in its memory.
        if not isinstance(value, tvm.runtime.Tensor) or not (value.shape or self._device_type):
            return const
        number = relax.prim_value(self._number(value))
        weight = self.builder_.emit(relax.op.call_pure_packed(WEIGHT_FUNCTION, number, ty_args=const.ty))
        if self._device_type is None:
            return weight
        place = relax.prim_value(self._device_type), relax.prim_value(0)
        return self.builder_.emit(relax.op.call_pure_packed(TO_DEVICE, weight, *place, ty_args=const.ty))

    def _number(self, value: tvm.runtime.Tensor) -> int:
        """Return the number of the weight equal to ``value``, a new one where there is none."""
        alike = self._numbers.setdefault((tuple(value.shape), str(value.dtype)), [])
        for number in alike:
            if np.array_equal(_bytes(value), _bytes(self.weights[number])):
                return number
        alike.append(len(self.weights))
        self.weights.append(value)
        return alike[-1]


def _bytes(value: tvm.runtime.Tensor) -> np.ndarray:
    """Return the memory of a tensor; compared as bytes, NaNs equal themselves and 0 differs from -0."""
    return np.frombuffer(np.ascontiguousarray(value.numpy()), np.uint8)
