"""An ONNX file becomes a Relax module."""

import ast
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from tvm_fastconv.errors import ModelError, quoted

from .examples import example_arrays
from .imported_model import ImportedModel
from .naming import LayerLabeller, Site, labelling, number_layers, unsupported_lines
from .onnx_check import check_inputs, check_model, check_text, check_weights
from .onnx_file import read_onnx
from .onnx_fold import fold_shape_arithmetic
from .onnx_quantize import prepare_quantization
from .onnx_rules import RULES
from .torch_rules import shape

_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_WINDOWED = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
_DOMAINS = {"", "ai.onnx", "com.microsoft"}
# TVM converts these, but into branches or sizes that depend on values, or into no tensors at all.
_DENIED = {
    "If", "NonZero", "Unique", "Compress", "NonMaxSuppression", "AllClassNMS", "Optional", "OptionalHasElement",
    "OptionalGetElement", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
}  # fmt: skip
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
    check_text(model, path)
    input_names = check_inputs(model.graph, path)
    _check(model, path)
    try:
        halves = _cast_to_float32(model.graph)
        check_weights(model.graph, _HEAVY)
        fold_shape_arithmetic(model)
        prepare_quantization(model.graph)
    except (LookupError, TypeError, ValueError) as error:  # NumPy's, of constants that do not fit
        raise ModelError(f"the constants of '{path}' do not fit together: {quoted(error)}") from error
    notices = [f"the model computes in {' and '.join(halves)}; it is compiled in float32"] if halves else []
    layers = _layer_names(model.graph)
    _check_operators(model.graph, layers)
    mod = _translate(model, layers)
    return ImportedModel(
        mod=mod,
        input_names=input_names,
        output_names=tuple(output.name for output in model.graph.output),
        example_inputs=example_arrays(mod, input_names, example_inputs),
        reference=None,
        program=None,
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


def _check(model: ModelProto, path: Path) -> None:
    """Refuse an invalid model; operators that nobody knows are all listed, as unsupported ones are."""
    try:
        check_model(model, path)
    except ModelError:
        _check_operators(model.graph, _layer_names(model.graph))
        raise


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


def _layer_names(graph: GraphProto) -> list[str]:
    """Return one name per node: its module path where the exporter wrote one, else the node's or output's name."""
    paths = [_module_path(node) or node.name.strip("/") or "".join(node.output[:1]) for node in graph.node]
    heavy = [node.op_type in _HEAVY for node in graph.node]
    return number_layers(Site(path, path, is_heavy) for path, is_heavy in zip(paths, heavy, strict=True))


def _module_path(node: NodeProto) -> str:
    """Read ``layer1.0.conv2`` from PyTorch's metadata, or from a node name like ``/layer1/layer1.0/conv2/Conv``."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                scopes = ast.literal_eval(entry.value)  # from the model itself ("") to the node
                if isinstance(scopes, list) and scopes and all(isinstance(scope, str) for scope in scopes):
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
    lines = unsupported_lines(
        (f"{node.domain + '::' if node.domain else ''}{node.op_type}", layer, "")
        for node, layer in zip(graph.node, layers, strict=True)
        if node.op_type not in known or node.domain not in _DOMAINS
    )
    if lines:
        raise ModelError("unsupported operators:\n  " + "\n  ".join(lines))


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
        raise ModelError(f"cannot import {importer.current_operator}: {quoted(error)}") from error
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
        result = RULES.get(op_name, _no_rule)(inputs, attrs, self._labeller.emit)
        if result is NotImplemented:
            result = self._labeller.bound(super()._convert_operator(op_name, inputs, attrs, opset))
        if op_name in _WINDOWED:
            _check_windows(result)
        return result


def _no_rule(*_: Any) -> Any:
    return NotImplemented


def _check_windows(result: relax.Expr) -> None:
    """Refuse a result without any position, which TVM would only notice when it makes loops."""
    if any(isinstance(size, int) and size < 1 for size in shape(result)):
        sizes = ", ".join(map(str, shape(result)))
        raise ValueError(f"its window is larger than its padded input: the result has the shape ({sizes})")
