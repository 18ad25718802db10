"""What is wrong with an ONNX model, said before anything is made of it: what ONNX Runtime refuses, and bad weights."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper, shape_inference

from tvm_fastconv.errors import ModelError

from .onnx_skeleton import without_weights

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def check_text(model: ModelProto, path: Path) -> None:
    """Refuse names that are no text: Protocol Buffers hand them out as ``bytes``, which nothing expects.

    Raises
    ------
    ModelError
        Naming the first of them.
    """
    bad = next((text for text in _texts(model) if isinstance(text, bytes)), None)
    if bad is not None:
        raise ModelError(f"'{path}' holds the name {bad!r}, which is not UTF-8")


def _texts(message: Any) -> Iterator[str | bytes]:
    """Yield every text of a message and of those in it, but for what tensors hold."""
    for field, value in message.ListFields() if not isinstance(message, TensorProto) else ():
        values = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for child in values:
                yield from _texts(child)
    if isinstance(message, TensorProto):
        yield message.name


def check_model(model: ModelProto, path: Path) -> None:
    """Refuse a model that ONNX's checker or its shape inference refuses, of a newer version, or with bad tensors.

    The checker does not see the weights, which may be larger than it takes; `_check_tensor` reads them.

    Raises
    ------
    ModelError
        Saying what is wrong with which node or tensor.
    """
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise ModelError(
                f"'{path}' is of opset {entry.version}; the installed onnx {onnx.__version__} knows up to {newest}"
            )
    if model.graph.sparse_initializer:
        raise ModelError(f"'{path}' holds sparse initializers; only dense ones are supported")
    for where, tensor in _tensors(model.graph):
        _check_tensor(tensor, where, path)
    try:
        light = without_weights(model)
        for output in light.graph.output:
            output.type.tensor_type.shape.SetInParent()  # one of unknown rank is valid, though not to the checker
        onnx.checker.check_model(light)
        _check_absent(light)
        _check_shapes(light)
    except Exception as error:  # they raise several kinds
        raise ModelError(f"'{path}' is no valid ONNX model: {_in_one_line(error)}") from error
    names = [output.name for output in model.graph.output]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ModelError(
            f"'{path}' lists the output '{twice[0]}' twice; every output needs a name of its own"
        )


def _tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield f"the initializer '{tensor.name}'", tensor
    for node in graph.node:
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                yield f"the constant of {node.op_type} '{node.name or ', '.join(node.output)}'", tensor


def _check_tensor(tensor: TensorProto, where: str, path: Path) -> None:
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise ModelError(f"'{path}': {where} is of the unknown type {tensor.data_type}")
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # NumPy's, ONNX's and Python's own
        shape = ", ".join(map(str, tensor.dims))
        raise ModelError(
            f"'{path}': {where} of shape ({shape}) cannot be read: {_in_one_line(error)}"
        ) from error


def _check_absent(light: ModelProto) -> None:
    """Refuse an input that is left out (an empty name) though it is not optional, which the checker lets pass."""
    versions = {entry.domain: entry.version for entry in light.opset_import}
    for node in light.graph.node:
        if "" not in node.input or not onnx.defs.has(node.op_type, node.domain):
            continue
        wanted = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain).inputs
        for index, name in enumerate(node.input):
            if not name and wanted[min(index, len(wanted) - 1)].option != _OPTIONAL:
                raise ValueError(f"input {index} of {node.op_type} '{node.name}' is left out")


def _check_shapes(light: ModelProto) -> None:
    """Infer shapes from the inputs alone: what the file says of others may be out of date and is not used."""
    del light.graph.value_info[:]
    for output in light.graph.output:
        output.type.tensor_type.ClearField("shape")
    shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_inputs(graph: GraphProto, path: Path) -> tuple[str, ...]:
    """Return the names of the inputs that are no weights; name their dynamic dimensions.

    A dimension whose name is none, but empty or a formula (``N**9999999``), is given one and is not evaluated.
    """
    weights = {tensor.name for tensor in graph.initializer}
    names: list[str] = []
    renamed: dict[str, str] = {}
    for value in graph.input:
        if value.name in weights:
            continue
        names.append(value.name)
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"'{path}': the input '{value.name}' is no tensor of known rank")
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.HasField("dim_value"):
                if dimension.dim_value < 1:
                    raise ModelError(
                        f"'{path}': the input '{value.name}' has a size of {dimension.dim_value}"
                    )
            elif not _NAME.fullmatch(dimension.dim_param):
                name = re.sub(r"\W", "_", f"size_{value.name}_{axis}", flags=re.ASCII)
                dimension.dim_param = renamed.setdefault(dimension.dim_param or name, name)
    if not names:
        raise ModelError(f"'{path}' has no inputs")
    return tuple(names)


def check_weights(graph: GraphProto, factors: frozenset[str]) -> None:
    """Refuse NaN anywhere, and infinities in the weights of the operators ``factors``."""
    weights = {name for node in graph.node if node.op_type in factors for name in node.input[1:]}
    bad = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and array.size:
            lowest, highest = array.min(), array.max()
            if np.isnan(lowest) or (tensor.name in weights and np.isinf([lowest, highest]).any()):
                bad.append(f"'{tensor.name}'")
    if bad:
        raise ModelError("weights are NaN or infinite: " + ", ".join(bad))
