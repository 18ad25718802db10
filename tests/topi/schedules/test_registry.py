import pytest
import tvm
from tvm import te

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.registry import (
    Template,
    chain_of,
    register,
    register_body,
    register_chain,
    register_generic,
    template_of,
)
from tvm_fastconv.topi.transpose import transpose


def _named(operator: str) -> tvm.tirx.PrimFunc:
    """A function that says that it is ``operator``."""
    x = te.placeholder((8,), "float32", name="x")
    attrs = {"fastconv.op": operator, "fastconv.knobs": "{}", "fastconv.layer": "{}"}
    return te.create_prim_func([x, te.compute((8,), lambda i: x[i] + 1.0, name="y", attrs=attrs)])


def test_an_operator_without_a_template_is_an_error_that_names_it() -> None:
    with pytest.raises(LookupError, match="operator telepathy has no template for targets of kind llvm"):
        schedule_primfunc(_named("telepathy"), Machine(lanes=4, registers=16))


def test_templates_belong_to_a_kind_of_target() -> None:
    assert template_of("llvm", "conv2d")
    with pytest.raises(LookupError, match="operator conv2d has no template for targets of kind abacus"):
        schedule_primfunc(_named("conv2d"), Machine(lanes=4, registers=16, kind="abacus"))


def test_an_operator_has_one_template() -> None:
    with pytest.raises(ValueError, match="operator conv2d has a template for llvm already"):
        register("llvm", ["conv2d"], Template(lambda site: None))


def test_an_operator_written_as_loops_needs_a_body_for_the_kind_of_target() -> None:
    with pytest.raises(LookupError, match="operator transpose has no body for targets of kind abacus"):
        transpose((1, 8, 8), 1, 1, 8, kind="abacus")


def test_bodies_are_registered_once() -> None:
    with pytest.raises(ValueError, match="transpose has a body for llvm already"):
        register_body("llvm", "transpose", lambda: None)


def test_what_has_no_template_needs_a_generic_schedule_for_the_kind_of_target() -> None:
    x = te.placeholder((8,), "float32", name="x")
    func = te.create_prim_func([x, te.compute((8,), lambda i: x[i] + 1.0, name="y")])
    with pytest.raises(LookupError, match="there is no generic schedule for targets of kind abacus"):
        schedule_primfunc(func, Machine(lanes=4, registers=16, kind="abacus"))


def test_a_kind_of_target_has_one_schedule_of_chains() -> None:
    assert chain_of("llvm") is not chain_of("cuda")
    with pytest.raises(ValueError, match="llvm has a schedule of chains already"):
        register_chain("llvm", lambda sch, machine: None)
    with pytest.raises(LookupError, match="there is no schedule of chains for targets of kind abacus"):
        chain_of("abacus")


def test_a_kind_of_target_has_one_generic_schedule() -> None:
    with pytest.raises(ValueError, match="llvm has a generic schedule already"):
        register_generic("llvm", lambda sch, machine: None)
