"""How a layer with sparse weights runs fastest, as lookups, dense, or with its dictionary multiplied out."""

import math

import numpy as np
from tvm import relax

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.lookup import FLOATS_PER_CYCLE, lookup_cycles
from tvm_fastconv.topi.schedules.cpu.tile import cycles, default_knobs

from ..dense.dense_costs import dense_cycles
from ..graph.conv_call import conv2d_of, direct_problem, extent, linear_problem
from ..graph.rewrite import op_name
from .sparse_layers import SparseLayer

TRANSPOSE_CYCLES = 0.4
"""Per float, in registers; what changing the layout around a layer costs."""

MEMORY_BYTES, CACHE_BYTES = 6.0, 14.0
"""Read by one core in a cycle, from memory and from the last cache."""

LAST_CACHE_BYTES = 16 * 1024 * 1024
"""Weights up to this size may well be in the last cache still; more are read from memory each time."""

PRODUCT_CYCLES, ROW_CYCLES = 1.4, 10.0
"""Of `lookup_dense`: each coefficient (1.1 on Zen 4 where lists are long), and each output."""


def estimates(layer: SparseLayer, machine: Machine) -> dict[str, float]:
    """Estimated cycles of ``layer`` with its dictionary, each way: ``lookup``, ``dense`` and ``reconstructed``."""
    scale = FLOATS_PER_CYCLE / machine.lanes
    before = 0.0
    if layer.dictionary is not None and layer.atoms is not None:
        before = _dense_cycles(layer, layer.dictionary, layer.atoms, machine)
    costs = {
        "lookup": before + _lookup_cycles(layer, machine) * scale,
        "dense": before + _dense_cycles(layer, layer.call, layer.weight, machine),
    }
    if layer.merged_shape is not None:
        merged = np.empty(layer.merged_shape, np.float32)  # only its size counts
        costs["reconstructed"] = _dense_cycles(layer, layer.call, merged, machine)
    return costs


def _lookup_cycles(layer: SparseLayer, machine: Machine) -> float:
    nonzeros = int(np.count_nonzero(layer.weight))
    read = _read_cycles(6 * nonzeros, machine)
    if layer.is_flat:
        return layer.batch * max(PRODUCT_CYCLES * nonzeros + ROW_CYCLES * len(layer.weight), read)
    shapes = [math.prod(extent(n) for n in expr.ty.shape) for expr in (layer.call.args[0], layer.call)]
    scale = FLOATS_PER_CYCLE / machine.lanes
    sums = lookup_cycles(layer.problem, layer.knobs(machine), machine) / scale
    return max(sums, read) + TRANSPOSE_CYCLES * sum(shapes)


def _dense_cycles(layer: SparseLayer, call: relax.Call, weight: np.ndarray, machine: Machine) -> float:
    """Of the fastest dense operator for ``weight`` in place of the one of ``call``."""
    if op_name(call) == "matmul":
        problem = linear_problem(call, weight)
        direct = problem.batch * cycles(problem, default_knobs(problem, machine), machine)
    else:
        params = conv2d_of(call)[0]  # type: ignore[index]
        direct = dense_cycles(direct_problem(call, params, weight), params, weight, machine)
    return max(direct, _read_cycles(weight.nbytes, machine) * FLOATS_PER_CYCLE / machine.lanes)


def _read_cycles(weight_bytes: float, machine: Machine) -> float:
    """To read weights that no cache, or only the last, keeps from one inference to the next."""
    if weight_bytes <= machine.l2_bytes:
        return 0.0
    return weight_bytes / (CACHE_BYTES if weight_bytes <= LAST_CACHE_BYTES else MEMORY_BYTES)
