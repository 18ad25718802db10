"""Evaluate the small constant arithmetic that exporters write around shapes and padding amounts.

TVM's converters want those amounts as constants; PyTorch's TorchScript exporter writes ``Constant``, ``Shape``,
``Gather``, ``Concat``, ``Slice`` and ``Cast`` nodes instead.
"""

from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from .onnx_skeleton import LARGEST_CONSTANT, without_weights

_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


def fold_shape_arithmetic(model: ModelProto) -> None:
    """Replace nodes whose inputs are small constants, and shapes of fixed size, by initializers. In place."""
    while _fold(model):  # a folded Reshape lets the shapes after it be inferred
        pass
    drop_unused(model.graph)


def _fold(model: ModelProto) -> bool:
    """Go through the nodes once; returns whether more may be found."""
    graph = model.graph
    measures = any(node.op_type == "Shape" for node in graph.node)
    shapes = _inferred_shapes(model) if measures else {}
    sizes: dict[str, list[int | None]] = {}
    known = {
        t.name: numpy_helper.to_array(t) for t in graph.initializer if np.prod(t.dims) <= LARGEST_CONSTANT
    }
    outputs = {output.name for output in graph.output}
    kept = []
    for node in graph.node:
        value = _known_sizes(node, known, shapes, sizes)
        values = [value] if value is not None else _evaluate(node, known)
        if values is None or outputs & set(node.output):
            kept.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            known[name] = np.asarray(value)
            graph.initializer.append(numpy_helper.from_array(known[name], name))
    folded = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    return folded and measures


def _inferred_shapes(model: ModelProto) -> dict[str, list[int | None]]:
    """Return the shape of every tensor of known rank; ``None`` for dynamic dimensions."""
    inferred = shape_inference.infer_shapes(without_weights(model), data_prop=True).graph
    return {
        value.name: [
            d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim
        ]
        for value in (*inferred.input, *inferred.value_info)
        if value.type.tensor_type.HasField("shape")
    }


def _known_sizes(
    node: NodeProto, known: dict[str, np.ndarray], shapes: dict[str, list], sizes: dict[str, list]
) -> Any:
    """Return a ``Shape`` node's sizes, or those a ``Gather`` takes from one, where they are all fixed."""
    if node.op_type == "Shape" and not node.attribute:
        sizes[node.output[0]] = wanted = shapes.get(node.input[0], [None])
    elif node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in known:
        wanted = np.array(sizes[node.input[0]], dtype=object)[known[node.input[1]]]
    else:
        return None
    return None if None in np.ravel(wanted).tolist() else np.array(wanted, dtype=np.int64)


def _evaluate(node: NodeProto, known: dict[str, np.ndarray]) -> list | None:
    foldable = all(not name or name in known for name in node.input) and not node.op_type.startswith(_RANDOM)
    if not foldable or any(attribute.HasField("g") for attribute in node.attribute):
        return None
    try:
        values = list(ReferenceEvaluator(node).run(None, {name: known[name] for name in node.input if name}))
    except Exception:  # an operator the evaluator does not have stays in the graph
        return None
    return values if all(np.size(value) <= LARGEST_CONSTANT for value in values) else None


def drop_unused(graph: GraphProto) -> None:
    """Remove the nodes and initializers that no output needs. In place."""
    used = {output.name for output in graph.output}
    nodes: list[NodeProto] = []
    for node in reversed(graph.node):
        if used & set(node.output):
            nodes.insert(0, node)
            used |= set(node.input)
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, kept in ((graph.node, nodes), (graph.initializer, initializers)):
        del field[:]
        field.extend(kept)
