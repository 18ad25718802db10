"""Prepare the quantized values of an ONNX graph for the rules, which only see one node and know no 4-bit dtypes.

Dequantized weights become float32 initializers; zero points become float32; a ``QuantizeLinear`` learns what it makes
(``dtype``) and whether others than ``DequantizeLinear`` read it (``integers``), in attributes of its own.
"""

import re

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from .onnx_fold import drop_unused

_INTEGER = re.compile(r"(u?)int(\d+)")


def integer_range(dtype: str) -> tuple[int, int]:
    """Return the lowest and highest value of ``uint4``, ``int8``, ...

    Raises
    ------
    NotImplementedError
        It is no integer dtype.
    """
    match = _INTEGER.fullmatch(dtype)
    if match is None:
        raise NotImplementedError(f"quantization to {dtype}: only integers are supported")
    bits = int(match[2])
    return (0, 2**bits - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def prepare_quantization(graph: GraphProto) -> None:
    """Make every ``QuantizeLinear`` and ``DequantizeLinear`` one that the rules take. In place."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, set[str]] = {output.name: {"the output"} for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    kept = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and _folds(node, weights, graph):
            continue
        if node.op_type == "QuantizeLinear":
            integers = bool(readers.get(node.output[0], set()) - {"DequantizeLinear"})
            node.attribute.append(helper.make_attribute("integers", int(integers)))
            node.attribute.append(helper.make_attribute("dtype", _quantized_dtype(node, weights)))
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _cast_zero_point(node, weights, graph)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused(graph)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _zero_point(node: NodeProto) -> str:
    return node.input[2] if len(node.input) > 2 else ""


def _quantized_dtype(node: NodeProto, weights: dict[str, TensorProto]) -> str:
    """Return the dtype a ``QuantizeLinear`` makes: its zero point's."""
    zero = weights.get(_zero_point(node))
    default = TensorProto.UINT8 if zero is None else zero.data_type
    return TensorProto.DataType.Name(_attribute(node, "output_dtype", 0) or default).lower()


def _cast_zero_point(node: NodeProto, weights: dict[str, TensorProto], graph: GraphProto) -> None:
    """Replace a constant zero point by one that is float32, of the node's own."""
    zero = weights.get(_zero_point(node))
    if zero is not None:
        node.input[2] = f"{node.output[0]}.zero_point"
        values = numpy_helper.to_array(zero).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.input[2]))


def _folds(node: NodeProto, weights: dict[str, TensorProto], graph: GraphProto) -> bool:
    """Whether a ``DequantizeLinear`` of constants became an initializer."""
    if any(name and name not in weights for name in node.input) or node.output[0] in _names(graph.output):
        return False
    level, scale, *zero = (numpy_helper.to_array(weights[name]) for name in node.input if name)
    how = _attribute(node, "axis", 1), _attribute(node, "block_size", 0)
    whole = level.astype(np.float32)
    shifted = whole - _spread(zero[0].astype(np.float32), level, *how) if zero else whole
    values = shifted * _spread(scale.astype(np.float32), level, *how)
    graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    return True


def _names(values: list) -> set[str]:
    return {value.name for value in values}


def _spread(values: np.ndarray, level: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Return scales (or zero points) in a shape that combines with the levels."""
    if values.size == 1:
        return values.reshape(())
    axis %= level.ndim
    if values.ndim == 1 and level.ndim > 1:
        return values.reshape([-1 if at == axis else 1 for at in range(level.ndim)])
    return np.repeat(values, block, axis).take(range(level.shape[axis]), axis) if block else values
