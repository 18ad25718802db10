"""Read an ONNX file, and the tensors that it keeps in other files of its folder."""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, external_data_helper

from tvm_fastconv.errors import ModelError
from tvm_fastconv.regular_files import open_regular


def read_onnx(path: Path) -> ModelProto:
    """Read a model with all of its weights.

    Raises
    ------
    ModelError
        The file cannot be read, or names a file of weights that is none or lies outside of its folder.
    """
    try:
        with open_regular(path) as file:
            model = onnx.load_model(io.BufferedReader(file), format="protobuf", load_external_data=False)
        for tensor in _tensors(model.graph):
            if external_data_helper.uses_external_data(tensor):
                _check_place(tensor, path)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except ModelError:
        raise
    except Exception as error:
        line = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ModelError(f"'{path}' cannot be read as ONNX: {line}") from error
    return model


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_place(tensor: TensorProto, path: Path) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = os.path.realpath(path.parent)
    place = os.path.realpath(os.path.join(folder, location))
    if os.path.isabs(location) or os.path.commonpath([folder, place]) != folder:
        raise ModelError(
            f"'{path}' is refused: the weights of '{tensor.name}' lie in '{location}', outside its folder"
        )
    if os.path.exists(place) and not stat.S_ISREG(os.stat(place).st_mode):
        raise ModelError(
            f"'{path}' is refused: the weights of '{tensor.name}' lie in '{location}', which is no file"
        )
