import pytest
import tvm
import tvm_ffi
from tvm import te, tirx

from tvm_fastconv.artifact.fatbin import source_kept
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.build_operator import compiled
from tvm_fastconv.topi.stack_buffers import MOST_ON_STACK, StackBuffers
from tvm_fastconv.topi.tir_pipeline import TIR_PIPELINE


def _by_way_of_a_buffer(size: int | tirx.Var) -> tirx.PrimFunc:
    x = te.placeholder((size,), "float32", name="x")
    between = te.compute(x.shape, lambda i: x[i] + tirx.const(1, "float32"), name="between")
    return te.create_prim_func(
        [x, te.compute(x.shape, lambda i: between[i] * tirx.const(2, "float32"), name="result")]
    )


@pytest.mark.parametrize(("size", "taken"), [(MOST_ON_STACK // 4, False), (MOST_ON_STACK // 4 + 1, True)])
def test_small_buffers_are_not_taken_from_the_runtime(size: int, taken: bool) -> None:
    library = compiled(_by_way_of_a_buffer(size), resolve_target("native"))
    code = library.mod.inspect_source("ll")
    assert ("TVMBackendAllocWorkspace" in code) == taken


def test_buffers_of_unknown_size_are() -> None:
    func = _by_way_of_a_buffer(tirx.Var("n", "int64")).with_attr("global_symbol", "main")
    code = tvm.compile(func, resolve_target("native"), tir_pipeline=TIR_PIPELINE).mod.inspect_source("ll")
    assert "TVMBackendAllocWorkspace" in code


def test_functions_for_gpus_are_left_alone() -> None:
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"})
    mod = tvm.IRModule({"main": _by_way_of_a_buffer(8).with_attr("target", target)})
    assert tvm_ffi.structural_equal(tvm.transform.Sequential([StackBuffers()])(mod), mod)


def test_what_kernels_read_is_not_on_the_stack_of_the_host() -> None:
    x = te.placeholder((8,), "float32", name="x")
    between = te.compute(x.shape, lambda i: x[i] + tirx.const(1, "float32"), name="between")
    y = te.compute(x.shape, lambda i: between[7 - i] * tirx.const(2, "float32"), name="result")
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": te.create_prim_func([x, y])}))
    for name in ("between", "result"):
        sch.bind(sch.get_loops(sch.get_sblock(name))[0], "threadIdx.x")
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
    with source_kept():
        made = tvm.compile(sch.mod, target, tir_pipeline=TIR_PIPELINE)
    assert "TVMBackendAllocWorkspace" in made.mod.inspect_source("ll")
