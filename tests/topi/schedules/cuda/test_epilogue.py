import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from tests.close import assert_close
from tests.cuda.emulate import TARGET, launches, run_in_all_orders
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.lookup_conv2d import LookupProblem, lookup_conv2d, lookup_conv2d_reference
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.operators import operator_attrs
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.lookup import GpuLookupKnobs
from tvm_fastconv.topi.sparse_lists import ListedFilters

MACHINE = machine_of(TARGET)
PARAMS = Conv2dParams(kernel=(3, 3), out_channels=10, padding=(1, 1, 1, 1))
KNOBS = GpuLookupKnobs(pixels=2, filters=2, warps=4, beside=1, block=4, columns=1, listed=64)
CHANNELS, SIDE, BATCH = 7, 9, 3

# Sums of a few float32 products in another order.
TOLERANCE = 2e-6


def _weight() -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (PARAMS.out_channels, CHANNELS, 3, 3)
    return rng.standard_normal(shape, np.float32) * (rng.random(shape) < 0.2)


def _fused(filters: ListedFilters, batch: int | tirx.Var, behind: str) -> tirx.PrimFunc:
    """The sums, with what stands ``behind`` them fused as the pipeline does it."""
    problem = LookupProblem(height=SIDE, width=SIDE, channels=CHANNELS, conv=PARAMS, nonzeros=100)
    attrs = operator_attrs("lookup_conv2d", problem, KNOBS)
    shape = (batch, CHANNELS, SIDE, SIDE)
    func = lookup_conv2d(shape, filters, PARAMS, KNOBS, attrs, "cuda").with_attr("op_pattern", 4)
    planes = relax.TensorType((batch, PARAMS.out_channels, SIDE, SIDE), "float32")
    lists = [relax.Var(f"list{i}", relax.TensorType(a.shape, "int32")) for i, a in enumerate(filters.arrays)]
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    bias = relax.Var("bias", relax.TensorType((1, PARAMS.out_channels, 1, 1), "float32"))
    other = relax.Var("other", planes)
    builder = relax.BlockBuilder()
    with builder.function("main", [x, *lists, bias, other]):
        with builder.dataflow():
            value = builder.emit(relax.call_tir(builder.add_func(func, "sums"), [x, *lists], out_ty=planes))
            value = builder.emit(relax.op.nn.relu(relax.op.add(value, bias)))
            value = relax.op.add(value, other) if behind == "residual" else relax.op.multiply(value, value)
            out = builder.emit_output(value)
        builder.emit_func_output(out)
    passes = [
        relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ]  # fmt: skip
    functions = tvm.ir.transform.Sequential(passes)(builder.get()).functions
    (fused,) = (func for func in functions.values() if isinstance(func, tirx.PrimFunc))
    return fused


@pytest.mark.parametrize("behind", ["residual", "square"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_what_stands_behind_is_computed_by_the_same_kernel(behind: str, symbolic: bool) -> None:
    rng, weight = np.random.default_rng(1), _weight()
    filters = KNOBS.lists(weight, PARAMS, (CHANNELS, SIDE, SIDE))
    fused = _fused(filters, tirx.Var("n", "int64") if symbolic else BATCH, behind)
    func = schedule_primfunc(fused, MACHINE)
    data = rng.standard_normal((BATCH, CHANNELS, SIDE, SIDE), np.float32)
    bias = rng.standard_normal((1, PARAMS.out_channels, 1, 1), np.float32)
    other = rng.standard_normal((BATCH, PARAMS.out_channels, SIDE, SIDE), np.float32)
    named = {"x": data, "bias": bias, "other": other}
    named |= {f"list{i}": array for i, array in enumerate(filters.arrays)}
    arrays = [named[param.name] for param in func.params[:-1] if param.name in named]
    want = np.maximum(lookup_conv2d_reference(data, weight, PARAMS) + bias, 0)
    want = want + other if behind == "residual" else want * want
    assert_close(run_in_all_orders(func, arrays, want.shape, "float32"), want, TOLERANCE)
    if not symbolic:
        assert len(launches(func)) == 1
