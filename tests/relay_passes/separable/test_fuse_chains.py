import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.relay_passes.graph.operator_call import CHAIN
from tvm_fastconv.relay_passes.separable.fuse_chains import FuseChains

SHAPE = (4, 8)


def _module(chains: tuple[str | None, ...], tap: bool = False) -> tvm.IRModule:
    """``main`` adds 1, 2, ... for each of ``chains``; with ``tap``, the first sum is a result too."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            values = [x]
            for number, chain in enumerate(chains):
                attrs = {"op_pattern": 4} | ({} if chain is None else {CHAIN: chain})
                call = builder.call_te(
                    lambda a, n=number: te.compute(a.shape, lambda i, j: a[i, j] + (n + 1.0), name="add"),
                    values[-1],
                    primfunc_name_hint=f"add_{number}",
                    primfunc_attrs=attrs,
                )
                values.append(builder.emit(call))
            result = values[-1] if not tap else relax.Tuple([values[1], values[-1]])
            out = builder.emit_output(result)
        builder.emit_func_output(out)
    return builder.get()


def _calls(mod: tvm.IRModule) -> list[list[str]]:
    """For every call of ``main``, the functions that it comes down to."""

    def names(call: relax.Expr) -> list[str]:
        if not isinstance(call, relax.Call):
            return []
        if call.op == tvm.ir.Op.get("relax.call_tir"):
            return [call.args[0].name_hint]
        func = mod[call.op]
        return [name for block in func.body.blocks for b in block.bindings for name in names(b.value)]

    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    return [names(b.value) for b in bindings if isinstance(b.value, relax.Call)]


@pytest.mark.parametrize(
    ("chains", "merged"),
    [
        (("0", "0"), [["add_0", "add_1"]]),
        (("0", "0", "0", "1", "1"), [["add_0", "add_1", "add_2"], ["add_3", "add_4"]]),
        ((None, "0", "0", None), [["add_0"], ["add_1", "add_2"], ["add_3"]]),
        ((None, None), [["add_0"], ["add_1"]]),
        (("0",), [["add_0"]]),
        (("0", None, "0"), [["add_0"], ["add_1"], ["add_2"]]),
    ],
)
def test_stages_become_one_function(chains: tuple[str | None, ...], merged: list[list[str]]) -> None:
    after = FuseChains()(_module(chains))
    assert _calls(after) == merged
    for var, func in after.functions.items():
        if isinstance(func, relax.Function) and var.name_hint != "main":
            assert func.attrs["Primitive"]
    relax.analysis.well_formed(after)


def test_what_is_fused_computes_the_same() -> None:
    fused = tvm.transform.Sequential([FuseChains(), relax.transform.FuseTIR()])(_module(("0", "0", "0")))
    assert [name for call in _calls(fused) for name in call] == ["fused_chain"]
    x = np.zeros(SHAPE, np.float32)
    machine = relax.VirtualMachine(tvm.compile(fused, "llvm"), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(x)).numpy(), x + 6)


def test_an_inner_value_that_is_an_output_is_kept() -> None:
    assert _calls(FuseChains()(_module(("0", "0"), tap=True))) == [["add_0"], ["add_1"]]
