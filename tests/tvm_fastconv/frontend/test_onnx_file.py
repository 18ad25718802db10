"""Weights in other files are read from the model's own folder, and from files only."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tvm_fastconv.errors import ModelError  # noqa: E402
from tvm_fastconv.frontend.onnx_file import read_onnx  # noqa: E402

WEIGHT = np.arange(4, dtype="float32")


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """Make a model whose weight lies at ``location``, as an initializer or inside a branch of a node."""

    def make(location: str, inside: bool = False) -> Path:
        tensor = numpy_helper.from_array(WEIGHT, "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
        inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "g", [], [value])
        outer = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [value], [tensor])
        path = tmp_path / "folder" / "m.onnx"
        path.parent.mkdir(exist_ok=True)
        onnx.save(helper.make_model(inner if inside else outer), path)
        return path

    return make


def test_weights_beside_the_model_are_read(model: Callable[..., Path]) -> None:
    path = model("w.bin")
    (path.parent / "w.bin").write_bytes(WEIGHT.tobytes())
    np.testing.assert_array_equal(numpy_helper.to_array(read_onnx(path).graph.initializer[0]), WEIGHT)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("location", ["../w.bin", "{outside}", "link.bin", "sub/../../w.bin"])
def test_weights_outside_of_the_folder_are_refused(
    location: str, inside: bool, model: Callable[..., Path], tmp_path: Path
) -> None:
    outside = tmp_path / "w.bin"
    outside.write_bytes(WEIGHT.tobytes())
    path = model(location.format(outside=outside), inside)
    (path.parent / "link.bin").symlink_to(outside)
    with pytest.raises(ModelError, match=r"is refused: the weights of 'w' lie in .*, outside its folder"):
        read_onnx(path)


def test_weights_in_a_fifo_are_refused(model: Callable[..., Path]) -> None:
    path = model("pipe")
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(ModelError, match="lie in 'pipe', which is no file"):
        read_onnx(path)


def test_missing_weights_are_one_message(model: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="cannot be read as ONNX: "):
        read_onnx(model("absent.bin"))
