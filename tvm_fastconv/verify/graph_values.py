"""All values of a graph that stand for something in the source, computed at once by code that is not ours."""

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.graph.layer_names import layer_name
from tvm_fastconv.relay_passes.graph.source_values import SourceValue, source_values
from tvm_fastconv.targets import triple_of
from tvm_fastconv.verify.plain_run import plain_run

from .relax_slices import results_of

Arrays = tuple[np.ndarray, ...]


def values_of_graph(
    mod: tvm.IRModule, target: tvm.target.Target
) -> tuple[list[tuple[str, SourceValue]], Callable[..., tuple[Arrays, Arrays]]]:
    """Make the values of ``mod`` computable.

    Returns
    -------
    noted
        Layer (or variable) and meaning of each value, in order.
    run
        ``run(*inputs) -> (values, outputs)``.
    """
    main, values = mod["main"], source_values(mod)
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    noted = [binding for binding in bindings if binding.var in values]
    builder = relax.BlockBuilder()
    with builder.function("main", list(main.params)):
        with builder.dataflow():
            for binding in bindings:
                builder.emit_normalized(binding)
            wanted = [*(binding.var for binding in noted), *results_of(main)]
            result = builder.emit_output(relax.Tuple([builder.emit_output(var) for var in wanted]))
        builder.emit_func_output(result)
    compute = plain_run(builder.get(), triple_of(target))

    def run(*inputs: np.ndarray) -> tuple[Arrays, Arrays]:
        arrays = compute(*inputs)
        return arrays[: len(noted)], arrays[len(noted) :]

    return [(layer_name(b.value) or b.var.name, values[b.var]) for b in noted], run
