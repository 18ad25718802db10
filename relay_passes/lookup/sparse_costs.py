"""How a layer with sparse weights runs fastest, as lookups, dense, or with its dictionary multiplied out."""

import dataclasses
import math

import numpy as np
from tvm import relax

from tvm_fastconv.topi.cycles import Cycles
from tvm_fastconv.topi.planner import Planner

from ..dense.dense_costs import dense_cycles
from ..dense.direct_plan import plan_linear
from ..graph.conv_call import conv2d_of, conv_problem, extent, linear_problem
from ..graph.rewrite import op_name
from .sparse_layers import SparseLayer


def estimates(layer: SparseLayer, planner: Planner) -> dict[str, float]:
    """Estimated cycles of ``layer`` with its dictionary, each way: ``lookup``, ``dense`` and ``reconstructed``."""
    before = 0.0
    if layer.dictionary is not None and layer.atoms is not None:
        before = _dense_cycles(layer.dictionary, layer.atoms.shape, planner)
    costs = {
        "lookup": before + _lookup_cycles(layer, planner),
        "dense": before + _dense_cycles(layer.call, layer.weight.shape, planner),
    }
    if layer.merged_shape is not None:
        costs["reconstructed"] = _dense_cycles(layer.call, layer.merged_shape, planner)
    return costs


def _lookup_cycles(layer: SparseLayer, planner: Planner) -> float:
    """Of the lookups, and of changing the layout around a convolution."""
    if layer.is_flat:
        return planner.planned("lookup_dense", layer.flat_problem).cycles
    shapes = [math.prod(extent(n) for n in expr.ty.shape) for expr in (layer.call.args[0], layer.call)]
    sums = planner.planned("lookup_conv2d", layer.problem(layer.params)).cycles
    return sums + planner.machine.transpose_cycles * sum(shapes)


def _dense_cycles(call: relax.Call, shape: tuple[int, ...], planner: Planner) -> Cycles:
    """Of the fastest dense operator for weights of ``shape`` in place of those of ``call``."""
    if op_name(call) == "matmul":
        direct = plan_linear(planner, linear_problem(call, shape[0])).cycles
    else:
        params = conv2d_of(call)[0]  # type: ignore[index]
        problem = conv_problem(call, params)
        direct = dense_cycles(planner, dataclasses.replace(problem, channels=shape[1] * params.groups))
    return direct.at_least(planner.machine.streaming_cycles(4 * int(np.prod(shape))))
