import re

import pytest
import tvm
import tvm_ffi

from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.build_operator import build, compiled
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.multiply_by_lane import MultiplyByLane
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

PROBLEM = ConvProblem(height=14, width=14, channels=30, conv=Conv2dParams(kernel=(1, 1), out_channels=96))
"""Of channels that are no whole vectors: a Cortex-A53 does not load these."""


def _assembly(cpu: str) -> str:
    target = resolve_target(f"aarch64-linux-gnu -mcpu={cpu}")
    machine = machine_of(target)
    knobs = TileKnobs.default(PROBLEM, machine)
    assert knobs is not None
    return str(compiled(build("conv2d", PROBLEM, knobs, machine).func, target).mod.inspect_source("s"))


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "neoverse-n1", "neoverse-v1", "apple-a14"])
def test_products_take_their_float_from_a_lane(cpu: str) -> None:
    code = _assembly(cpu)
    products = re.findall(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+\.(s\[\d\]|4s)", code)
    assert len(products) >= 20
    assert "4s" not in products
    assert "ld1r" not in code


def _product(scope: str, dtype: str = "float32", first: bool = True) -> tvm.tirx.PrimFunc:
    buffer = tvm.tirx.decl_buffer((4,), dtype, "data", scope=scope)
    result = tvm.tirx.decl_buffer((4,), dtype, "result")
    spread = tvm.tirx.Broadcast(buffer[1], 4)
    lanes = tvm.tirx.Ramp(0, 1, 4)
    vector = tvm.tirx.BufferLoad(result, [lanes])
    store = tvm.tirx.BufferStore(result, spread * vector if first else vector * spread, [lanes])
    return tvm.tirx.PrimFunc([buffer, result], store)


def _passed(func: tvm.tirx.PrimFunc, target: str) -> tvm.tirx.PrimFunc:
    return MultiplyByLane()(tvm.IRModule({"main": func.with_attr("target", resolve_target(target))}))["main"]


ARM, X86 = "aarch64-linux-gnu", "x86_64-linux-gnu"


@pytest.mark.parametrize("first", [True, False])
def test_a_float_of_memory_is_fenced(first: bool) -> None:
    assert "arithmetic.fence" in _passed(_product("global", first=first), ARM).script()


@pytest.mark.parametrize(
    ("scope", "dtype", "target"),
    [("global", "float32", X86), ("local", "float32", ARM), ("global", "int32", ARM)],
)
def test_others_are_not(scope: str, dtype: str, target: str) -> None:
    func = _product(scope, dtype)
    assert tvm_ffi.structural_equal(_passed(func, target).body, func.body)
