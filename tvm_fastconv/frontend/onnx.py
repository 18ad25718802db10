"""An ONNX file becomes a Relax module."""

import ast
import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from tvm.relax.frontend.onnx import onnx_frontend

from tvm_fastconv.errors import ModelError

from .examples import example_arrays
from .imported_model import ImportedModel
from .naming import LayerLabeller, Site, labelling, number_layers
from .onnx_file import read_onnx
from .onnx_fold import fold_shape_arithmetic
from .onnx_quantize import prepare_quantization
from .onnx_rules import RULES

_HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_DOMAINS = {"", "ai.onnx", "com.microsoft"}
# TVM converts these, but into branches or sizes that depend on values, or into no tensors at all.
_DENIED = {
    "If", "NonZero", "Unique", "Compress", "NonMaxSuppression", "AllClassNMS", "Optional", "OptionalHasElement",
    "OptionalGetElement", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
}  # fmt: skip
_DIMENSION = re.compile(r"[A-Za-z_]\w*(\s*[-+*/]+\s*\w+)*")  # a name, or arithmetic that starts with one
_HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def import_onnx(path: Path, example_inputs: Any = None) -> ImportedModel:
    """Import an ONNX file; weights become constants, named dimensions stay dynamic.

    Parameters
    ----------
    path : Path
    example_inputs : ndarray, Tensor or tuple of them, optional
        Checked against the graph's inputs.

    Raises
    ------
    ModelError
        The file cannot be read, operators are unsupported (all of them listed), inputs or weights are bad.
    """
    model = _load(path)
    halves = _cast_to_float32(model.graph)
    notices = [f"the model computes in {' and '.join(halves)}; it is compiled in float32"] if halves else []
    input_names = _check_inputs(model.graph, path)
    _check_weights(model.graph)
    fold_shape_arithmetic(model)
    prepare_quantization(model.graph)
    layers = _layer_names(model.graph)
    _check_operators(model.graph, layers)
    mod = _translate(model, layers)
    return ImportedModel(
        mod=mod,
        input_names=input_names,
        output_names=tuple(output.name for output in model.graph.output),
        example_inputs=example_arrays(mod, input_names, example_inputs),
        reference=None,
        notices=tuple(notices),
    )


def _load(path: Path) -> ModelProto:
    model = read_onnx(path)
    try:
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(f"'{path}' cannot be read as ONNX: {str(error).partition(chr(10))[0]}") from error
    if not model.graph.output:
        raise ModelError(f"'{path}' holds no ONNX graph")
    return model


def _cast_to_float32(graph: GraphProto) -> list[str]:
    """Turn half-precision tensors, types and conversions into float32; returns the dtypes found."""
    found = set()

    def cast_tensor(tensor: TensorProto) -> None:
        if tensor.data_type in _HALVES:
            found.add(_HALVES[tensor.data_type])
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    for tensor in graph.initializer:
        cast_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _HALVES:
            found.add(_HALVES[value.type.tensor_type.elem_type])
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                cast_tensor(attribute.t)
            elif attribute.name in ("to", "dtype") and attribute.i in _HALVES:
                found.add(_HALVES[attribute.i])
                attribute.i = TensorProto.FLOAT
    return sorted(found)


def _check_inputs(graph: GraphProto, path: Path) -> tuple[str, ...]:
    """Return the names of the inputs that are no weights; name their unnamed dynamic dimensions."""
    weights = {tensor.name for tensor in graph.initializer}
    names = []
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
            elif not _DIMENSION.fullmatch(dimension.dim_param):
                dimension.dim_param = re.sub(r"\W", "_", f"size_{value.name}_{axis}")
    if not names:
        raise ModelError(f"'{path}' has no inputs")
    return tuple(names)


def _check_weights(graph: GraphProto) -> None:
    """Refuse NaN anywhere, and infinities in the weights of convolutions and matrix products."""
    weights = {name for node in graph.node if node.op_type in _HEAVY for name in node.input[1:]}
    bad = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and array.size:
            lowest, highest = array.min(), array.max()
            if np.isnan(lowest) or (tensor.name in weights and np.isinf([lowest, highest]).any()):
                bad.append(f"'{tensor.name}'")
    if bad:
        raise ModelError("weights are NaN or infinite: " + ", ".join(bad))


def _layer_names(graph: GraphProto) -> list[str]:
    """Return one name per node: its module path where the exporter wrote one, else the node's or output's name."""
    paths = [_module_path(node) or node.name.strip("/") or node.output[0] for node in graph.node]
    heavy = [node.op_type in _HEAVY for node in graph.node]
    return number_layers(Site(path, path, is_heavy) for path, is_heavy in zip(paths, heavy, strict=True))


def _module_path(node: NodeProto) -> str:
    """Read ``layer1.0.conv2`` from PyTorch's metadata, or from a node name like ``/layer1/layer1.0/conv2/Conv``."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            with contextlib.suppress(ValueError, SyntaxError):
                scopes = ast.literal_eval(entry.value)  # from the model itself ("") to the node
                return scopes[-2] if len(scopes) > 1 and scopes[-2] else scopes[-1]
    if not node.name.startswith("/"):
        return ""
    path: list[str] = []
    for scope in node.name.split("/")[1:-1]:
        if path and scope.startswith(path[-1] + "."):  # a container's child repeats the container's name
            path.pop()
        path.append(scope)
    return ".".join(path)


def _check_operators(graph: GraphProto, layers: list[str]) -> None:
    known = set(onnx_frontend._get_convert_map()) - _DENIED
    lines = [
        f"{node.domain + '::' if node.domain else ''}{node.op_type} in layer '{layer}'"
        for node, layer in zip(graph.node, layers, strict=True)
        if node.op_type not in known or node.domain not in _DOMAINS
    ]
    if lines:
        raise ModelError("unsupported operators:\n  " + "\n  ".join(dict.fromkeys(lines)))


def _translate(model: ModelProto, layers: list[str]) -> tvm.IRModule:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    for index, node in enumerate(model.graph.node):
        node.name = str(index)  # by which the importer, which passes names only, finds the layer
    importer = _Importer(layers)
    try:
        # The base class prints what it fails on and warns about every name that is no identifier.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mod = importer.from_onnx(model.graph, opset)
    except Exception as error:
        raise ModelError(f"cannot import {importer.current_operator}: {error}") from error
    mod["main"] = mod["main"].without_attr("num_input")
    return mod


class _Importer(onnx_frontend.ONNXGraphImporter):
    """TVM's importer, binding and labelling every call, with this package's rules in place of some converters."""

    def __init__(self, layers: list[str]) -> None:
        super().__init__({}, {})
        self._layers = layers
        self._labeller = LayerLabeller(self.bb)
        self.current_operator = "the graph's inputs"

    def from_onnx(self, graph: GraphProto, opset: int) -> tvm.IRModule:
        with labelling(self.bb) as self._labeller:
            return super().from_onnx(graph, opset)

    def _convert_operator(self, op_name: str, inputs: list, attrs: dict[str, Any], opset: int) -> Any:
        layer = self._layers[int(attrs["tvm_custom"]["name"])]
        self._labeller.layer, self.current_operator = layer, f"{op_name} in layer '{layer}'"
        if op_name in RULES:
            result = RULES[op_name](inputs, attrs, self._labeller.emit)
            if result is not NotImplemented:
                return result
        return self._labeller.bound(super()._convert_operator(op_name, inputs, attrs, opset))
