"""What an approximated layer's output is off by, when it is fed with what the original network feeds it."""

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.graph.layer_names import layer_name
from tvm_fastconv.relay_passes.graph.layer_notes import LayerNotes, notes_of
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.graph.thresholds import LAYERS

from .plain_run import plain_run


def with_output_errors(
    before: tvm.IRModule, after: tvm.IRModule, inputs: tuple[np.ndarray, ...] | None
) -> tvm.IRModule:
    """Add to what is noted of each approximated layer ``‖y' − y‖ / ‖y‖``, y its output before bias and activation.

    Parameters
    ----------
    before, after : IRModule
        The graph before and after the passes that approximate: every value they did not insert keeps its variable.
    inputs : tuple of ndarray, optional
        Example inputs. Without them, or where one is not finite, nothing is added.

    Returns
    -------
    IRModule
        ``after`` with longer notes.
    """
    known, notes = notes_of(after), LayerNotes()
    names = {
        binding.var: name
        for binding in _bindings(before["main"])
        if op_name(binding.value) in LAYERS  # a bias has its layer's name too
        and (name := layer_name(binding.value))
        and "approximation" in known.get(name, {})
    }
    if not names or inputs is None or not all(np.isfinite(x).all() for x in inputs):
        return after
    energies = plain_run(_side_by_side(before["main"], after["main"], list(names)))(*inputs)
    for name, missed, size in zip(names.values(), energies[0::2], energies[1::2], strict=True):
        if size.any() and np.isfinite(size).all() and np.isfinite(missed).all():  # squares may overflow
            off = np.sqrt(missed.sum(dtype=np.float64) / size.sum(dtype=np.float64))
            text = f"its output without the bias is off by {100 * off:.3g} % on the example input"
            notes.note(name, approximation=f"{known[name]['approximation']}; {text}")
    return notes.written_to(after)


def _bindings(func: relax.Function) -> list[relax.Binding]:
    return [binding for block in func.body.blocks for binding in block.bindings]


def _side_by_side(before: relax.Function, after: relax.Function, layers: list[relax.Var]) -> tvm.IRModule:
    """The network of ``before``, in which each layer's replacement reads the same input beside it.

    Returns
    -------
    IRModule
        Its results are ``Σ (y' − y)²`` and ``Σ y²`` over the last axis, for one layer after the other.
    """
    original = {binding.var: binding for binding in _bindings(before)}
    builder, sums = relax.BlockBuilder(), []
    with builder.function("main", list(before.params)):
        with builder.dataflow():
            for binding in _bindings(after):
                if binding.var not in layers:
                    builder.emit_normalized(binding)
                    continue
                builder.emit_normalized(original[binding.var])
                replaced = builder.emit(binding.value)
                missed = builder.emit(relax.op.subtract(replaced, binding.var))
                for value in (missed, binding.var):
                    square = builder.emit(relax.op.multiply(value, value))
                    sums.append(builder.emit_output(relax.op.sum(square, axis=[-1])))
            result = builder.emit_output(relax.Tuple(sums))
        builder.emit_func_output(result)
    return relax.transform.DeadCodeElimination()(builder.get())
