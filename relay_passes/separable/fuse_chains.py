"""The functions of a chain → one function, whose schedule keeps what is between them in cache.

Runs behind ``FuseOps``, when each stage is a function of its own with its element-wise operators, and in front of
``FuseTIR``, which makes one PrimFunc of each.
"""

import itertools
from collections import Counter

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from ..graph.operator_call import CHAIN
from ..graph.rewrite import count_uses, entry_functions
from ..module.follow_values import tir_calls

_CALL_TIR = "relax.call_tir"


@tvm.transform.module_pass(opt_level=0, name="FuseChains")
class FuseChains:
    """Merge calls whose operators carry the same `CHAIN`, each of which reads the result of the one before alone."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every function that calls others."""
        mod = relax.transform.CanonicalizeBindings()(mod)
        for var, func in entry_functions(mod).items():
            merger = _Merger(mod, _connected_chains(mod, func))
            merger.builder_.update_func(var, relax.analysis.remove_all_unused(merger.visit_expr(func)))
            mod = merger.builder_.get()
        return relax.transform.DeadCodeElimination()(mod)


def _connected_chains(mod: tvm.IRModule, func: relax.Function) -> list[list[relax.VarBinding]]:
    chains: dict[str, list[relax.VarBinding]] = {}
    for block in func.body.blocks:
        for binding in block.bindings:
            chain = _chain_of(mod, binding.value)
            if chain is not None:
                chains.setdefault(chain, []).append(binding)
    uses = count_uses(func)
    return [stages for stages in chains.values() if _is_connected(stages, uses)]


def _chain_of(mod: tvm.IRModule, value: relax.Expr) -> str | None:
    """The chain that the operator in ``value``, a call of a PrimFunc or of a function of such calls, belongs to."""
    for call in tir_calls(mod, value):
        func = mod[call.args[0]]
        if func.attrs and CHAIN in func.attrs:
            return str(func.attrs[CHAIN])
    return None


def _arguments(call: relax.Call) -> list[relax.Expr]:
    return list(call.args[1].fields if call.op == tvm.ir.Op.get(_CALL_TIR) else call.args)


def _is_connected(stages: list[relax.VarBinding], uses: Counter) -> bool:
    """Whether every stage but the first reads the one before it directly, and nobody else does."""
    return len(stages) > 1 and all(
        uses[before.var] == 1 and any(arg.same_as(before.var) for arg in _arguments(stage.value))
        for before, stage in itertools.pairwise(stages)
    )


def _with_sizes_of(func: relax.Function, given: list[relax.Expr]) -> relax.Function:
    """``func`` with the symbolic sizes of the arguments ``given`` instead of its own."""
    sizes = {
        own: size
        for param, value in zip(func.params, given, strict=True)
        for own, size in zip(param.ty.shape, value.ty.shape, strict=True)
        if isinstance(own, tirx.Var) and not own.same_as(size)
    }
    return func.bind_symbolic_vars(sizes) if sizes else func


@mutator
class _Merger(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, chains: list[list[relax.VarBinding]]) -> None:
        super().__init__(mod)
        self.mod = mod
        self.chains = {stages[-1].var: stages for stages in chains}
        self.inner = {stage.var for stages in chains for stage in stages[:-1]}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        """Leave out inner stages; the last one becomes a call of the merged function."""
        if binding.var in self.inner:
            return
        if binding.var in self.chains:
            func, arguments = self._merged(self.chains[binding.var])
            var = self.builder_.add_func(func, "fused_chain")
            value = relax.Call(var, [self.visit_expr(arg) for arg in arguments])
            binding = relax.VarBinding(binding.var, value)
        super().visit_var_binding_(binding)

    def _merged(self, stages: list[relax.VarBinding]) -> tuple[relax.Function, list[relax.Expr]]:
        """One function for ``stages``, and what it is to be called with."""
        inner = {stage.var for stage in stages}
        arguments = [arg for stage in stages for arg in _arguments(stage.value) if arg not in inner]
        params = [relax.Var(f"p{i}", arg.ty) for i, arg in enumerate(arguments)]
        free = iter(params)
        values: dict[relax.Expr, relax.Expr] = {}
        bb = relax.BlockBuilder(self.mod)
        with bb.function("fused_chain", params, attrs={"Primitive": True}, private=True):
            with bb.dataflow():
                for stage in stages:
                    given = [values[arg] if arg in inner else next(free) for arg in _arguments(stage.value)]
                    values[stage.var] = self._inlined(bb, stage.value, given)
                out = bb.emit_output(values[stages[-1].var])
            bb.emit_func_output(out)
        return bb.get()["fused_chain"], arguments

    def _inlined(self, bb: relax.BlockBuilder, call: relax.Call, given: list[relax.Expr]) -> relax.Expr:
        """Emit what ``call`` does with the arguments ``given``."""
        if call.op == tvm.ir.Op.get(_CALL_TIR):
            return bb.emit(relax.Call(call.op, [call.args[0], relax.Tuple(given)], call.attrs, call.ty_args))
        func = _with_sizes_of(self.mod[call.op], given)
        values = dict(zip(func.params, given, strict=True))
        for block in func.body.blocks:
            for binding in block.bindings:
                inner = binding.value
                arguments = [values.get(arg, arg) for arg in _arguments(inner)]
                values[binding.var] = self._inlined(bb, inner, arguments)
        return values[func.body.body]
