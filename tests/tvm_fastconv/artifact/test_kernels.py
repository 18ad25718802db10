"""Functions as C functions: where their buffers lie, and what they are called."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx

from tvm_fastconv.artifact.kernels import Kernels, compile_kernels
from tvm_fastconv.relay_passes.module.straight_line import KernelCall, StraightLine
from tvm_fastconv.report import ALIGNMENT
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.stack_buffers import MOST_ON_STACK

TARGET = resolve_target("native")


def _increased(x: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda i: x[i] + tirx.const(1, "float32"), name="between")


def _product(*values: te.Tensor) -> te.Tensor:
    def multiply(i: tirx.Var) -> tvm.ir.Expr:
        product = tirx.const(2, "float32")
        for value in values:
            product = product * value[i]
        return product

    return te.compute(values[0].shape, multiply, name="result")


def _twice(size: int, buffers: int = 1) -> tvm.IRModule:
    """``twice(x, …, y)``: y = 2 (x + 1) …, by way of as many buffers, which live at once."""
    inputs = [te.placeholder((size,), "float32", name=f"x{i}") for i in range(buffers)]
    func = te.create_prim_func([*inputs, _product(*map(_increased, inputs))])
    return tvm.IRModule({"twice": func.with_attr("global_symbol", "twice")})


def _compiled(size: int, buffers: int = 1, prefix: str = "p_") -> Kernels:
    line = StraightLine((KernelCall("twice", ()),), (), 0)
    return compile_kernels(_twice(size, buffers), line, TARGET, prefix)


@pytest.mark.parametrize(
    ("buffers", "size", "scratch"),
    [
        (1, 100, 0),
        (1, MOST_ON_STACK // 4, 0),
        (1, MOST_ON_STACK // 4 + 1, MOST_ON_STACK + ALIGNMENT),
        (2, MOST_ON_STACK // 8, 0),
        (2, 3000, 12032),
        (2, 10001, 2 * 40064),
    ],
)
def test_small_buffers_lie_on_the_stack(buffers: int, size: int, scratch: int) -> None:
    kernels = _compiled(size, buffers)
    assert kernels.scratch_bytes == ({"twice": scratch} if scratch else {})
    assert ("__TVMBackendAllocWorkspace" in kernels.module.inspect_source("ll")) == (scratch > 0)


def test_a_function_of_c(tmp_path: Path) -> None:
    kernels = _compiled(1000, prefix="some_")
    kernels.module.write_to_file(str(tmp_path / "k.o"), "o")
    subprocess.run(["cc", "-shared", "-o", "k.so", "k.o", "-lm"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "k.so"))
    memory = np.zeros(4096, np.float32)
    start = -memory.ctypes.data % ALIGNMENT // 4
    x, y = memory[start : start + 1000], memory[start + 1024 : start + 2024]
    x[...] = np.arange(1000)
    assert library.some_twice(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)) == 0
    np.testing.assert_array_equal(y, 2 * (np.arange(1000, dtype=np.float32) + 1))


def test_only_what_is_called_is_compiled() -> None:
    mod = _twice(8)
    mod.update(tvm.IRModule({"other": _twice(9)["twice"].with_attr("global_symbol", "other")}))
    line = StraightLine((KernelCall("other", ()),), (), 0)
    source = compile_kernels(mod, line, TARGET, "p_").module.inspect_source("ll")
    assert "@p_other" in source
    assert "@p_twice" not in source


def test_external_kernels_leave_no_functions() -> None:
    from tvm_fastconv.relay_passes import pipeline
    from tvm_fastconv.relay_passes.module.extern_kernels import ExternKernels

    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((8,), "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            double = lambda a: te.compute(a.shape, lambda i: a[i] * 2.0, name="double")  # noqa: E731
            y = bb.emit_output(bb.call_te(double, x, primfunc_name_hint="double"))
        bb.emit_func_output(y)
    mod = ExternKernels()(tvm.transform.Sequential(pipeline.lower())(bb.get()))
    assert [var.name_hint for var in mod.get_global_vars()] == ["main"]
    called: list[str] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.ExternFunc):
            called.append(expr.global_symbol)

    relax.analysis.post_order_visit(mod["main"], visit)
    assert "double" in called
