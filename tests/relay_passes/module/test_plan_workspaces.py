"""What functions of several kernels keep between them becomes memory that is planned."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax, te, tirx

from tvm_fastconv.relay_passes.module.plan_workspaces import PlanWorkspaces
from tvm_fastconv.topi.window import extents

GPU = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host={"kind": "llvm"})


def _twice(rows: int | tirx.Var, target: tvm.target.Target) -> tirx.PrimFunc:
    """Adds one, keeps that, and doubles it."""
    x = te.placeholder(extents(rows, 4), "float32", name="x")
    more = te.compute(x.shape, lambda i, j: x[i, j] + tirx.const(1, "float32"), name="more")
    func = te.create_prim_func([x, te.compute(x.shape, lambda i, j: more[i, j] * tirx.const(2, "float32"))])
    return func.with_attr("target", target)


def _module(rows: int | tirx.Var, target: tvm.target.Target) -> tvm.IRModule:
    """``main`` calls it two times."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((rows, 4), "float32"))
    twice = builder.add_func(_twice(rows, target), "twice")
    with builder.function("main", [x]):
        with builder.dataflow():
            once = builder.emit(relax.call_tir(twice, (x,), x.ty))
            result = builder.emit_output(relax.call_tir(twice, (once,), x.ty))
        builder.emit_func_output(result)
    return builder.get()


def test_it_is_a_result_in_front_of_the_own_one() -> None:
    after = PlanWorkspaces()(_module(3, GPU))
    func = after["twice"]
    assert [param.name for param in func.params] == ["x", "more", "compute"]
    assert not func.body.block.alloc_buffers
    assert [var.name_hint for var in after.get_global_vars()] == ["main", "twice"]
    calls = [
        binding.value
        for block in after["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
    ]
    assert [len(call.ty.fields) for call in calls] == [2, 2]
    relax.analysis.well_formed(after)


def test_memory_of_it_is_planned() -> None:
    passes = [
        relax.transform.ToNonDataflow(), relax.transform.RemovePurityChecking(), PlanWorkspaces(),
        relax.transform.CallTIRRewrite(), relax.transform.StaticPlanBlockMemory(),
    ]  # fmt: skip
    planned = tvm.transform.Sequential(passes)(_module(3, GPU)).script()
    # The two workspaces, one after the other, and what is between the calls.
    assert planned.count("R.memory.alloc_storage") == 2


@pytest.mark.parametrize(
    ("rows", "target"),
    [(3, tvm.target.Target({"kind": "llvm"})), (tirx.Var("n", "int64"), GPU)],
    ids=["CPU", "any size"],
)
def test_what_is_left_alone(rows: int | tirx.Var, target: tvm.target.Target) -> None:
    module = _module(rows, target)
    tvm.ir.assert_structural_equal(PlanWorkspaces()(module), module)
