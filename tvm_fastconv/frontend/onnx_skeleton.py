"""An ONNX model without its weights, for ONNX's own tools, which copy what they are given and stop at 2 GB."""

import math

from onnx import ModelProto, helper

LARGEST_CONSTANT = 1024
"""Elements up to which an initializer counts as a constant of shape arithmetic, and not as a weight."""

_INITIALIZERS_NEED_NOT_BE_INPUTS = 4


def without_weights(model: ModelProto) -> ModelProto:
    """Return a copy of the model in which weights are inputs of the same type and shape.

    What ONNX Runtime does without is filled in (a newer ``ir_version``, the graph's name), and ONNX's own domain goes
    by one of its two names.
    """
    graph = model.graph
    light = ModelProto(ir_version=max(model.ir_version, _INITIALIZERS_NEED_NOT_BE_INPUTS))
    light.opset_import.extend(model.opset_import)
    light.graph.name = graph.name or "graph"
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(graph, field))
    for named in (*light.opset_import, *light.graph.node):
        named.domain = "" if named.domain == "ai.onnx" else named.domain
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= LARGEST_CONSTANT:
            light.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(value)
    return light
