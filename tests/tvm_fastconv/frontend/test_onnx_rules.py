"""ONNX operators that TVM's converters would make something else of, against ONNX's own reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from tvm_fastconv.errors import ModelError  # noqa: E402
from tvm_fastconv.frontend import import_model  # noqa: E402

from ...close import assert_close  # noqa: E402

IMAGE, ROW = (2, 4, 7, 9), (2, 4, 9)
RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.uniform(-1, 1, shape).astype("float32")


def ints(*values: int) -> np.ndarray:
    return np.array(values, "int64")


def build(
    op: str, shape: tuple, inputs: list[np.ndarray | None], opset: int, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """One node on ``x`` and constants."""
    names = ["x"] + ["" if value is None else f"c{i}" for i, value in enumerate(inputs)]
    outs = ["y", "z", "u"][:outputs]
    graph = helper.make_graph(
        [helper.make_node(op, names, outs, name="node", **attributes)],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outs],
        [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(inputs) if value is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


STATISTICS = [weight(4), weight(4), weight(4), np.abs(weight(4)) + np.float32(0.1)]
HALF = {"coordinate_transformation_mode": "half_pixel"}
CORNERS = {"coordinate_transformation_mode": "align_corners"}
FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

# name -> (operator, input shape, further inputs, opset, attributes, the Relax operators it becomes)
CASES: dict[str, tuple[str, tuple, list, int, dict[str, Any], str]] = {
    "conv": ("Conv", IMAGE, [weight(6, 4, 3, 2), weight(6)], 17, {"pads": [1, 0, 2, 1]}, "nn.conv2d reshape add"),
    "conv_groups": ("Conv", IMAGE, [weight(8, 1, 3, 3)], 17, {"group": 4, "strides": [2, 1]}, "nn.conv2d"),
    "conv_upper": ("Conv", IMAGE, [weight(3, 4, 4, 2)], 17, {"auto_pad": "SAME_UPPER"}, "nn.conv2d"),
    "conv_lower": ("Conv", IMAGE, [weight(3, 4, 4, 2)], 17, {"auto_pad": "SAME_LOWER"}, "nn.conv2d"),
    "conv_valid": ("Conv", IMAGE, [weight(3, 4, 3, 3)], 17, {"auto_pad": "VALID", "dilations": [2, 1]}, "nn.conv2d"),
    "conv_row": (
        "Conv", ROW, [weight(6, 4, 3)], 17, {"pads": [1, 0], "strides": [2]},
        "expand_dims expand_dims nn.conv2d squeeze",
    ),
    "transposed": (
        "ConvTranspose", IMAGE, [weight(4, 3, 3, 3), weight(3)], 17,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}, "nn.conv2d_transpose reshape add",
    ),
    "elu": ("Elu", ROW, [], 17, {"alpha": 0.7}, "minimum multiply tanh exp add multiply nn.relu multiply add"),
    "selu": ("Selu", ROW, [], 17, {}, "minimum multiply tanh exp add multiply nn.relu multiply multiply add"),
    "softplus": ("Softplus", ROW, [], 17, {}, "nn.softplus"),
    "mish": ("Mish", ROW, [], 18, {}, "nn.softplus tanh multiply"),
    "max_pool": ("MaxPool", IMAGE, [], 17, {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1]}, "nn.max_pool2d"),
    "max_pool_ceil": (
        "MaxPool", IMAGE, [], 17, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, "nn.max_pool2d",
    ),
    "max_pool_row": (
        "MaxPool", ROW, [], 17, {"kernel_shape": [2], "strides": [2]}, "expand_dims nn.max_pool2d squeeze",
    ),
    "avg_pool": ("AveragePool", IMAGE, [], 17, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "nn.avg_pool2d"),
    "avg_pool_padding": (
        "AveragePool", IMAGE, [], 17, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        "nn.avg_pool2d",
    ),
    "avg_pool_upper": (
        "AveragePool", IMAGE, [], 17, {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}, "nn.avg_pool2d",
    ),
    "pad": ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(0.5)], 17, {}, "nn.pad"),
    "pad_axes": ("Pad", IMAGE, [ints(1, 2), None, ints(-1)], 18, {"mode": "reflect"}, "nn.pad"),
    "pad_edge": ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 0, 3)], 17, {"mode": "edge"}, "nn.pad"),
    "resize_nearest": ("Resize", IMAGE, [None, np.float32([1, 1, 2, 2])], 17, FLOOR, "image.resize2d"),
    "resize_linear": (
        "Resize", IMAGE, [None, None, ints(2, 4, 5, 13)], 17, {"mode": "linear", **HALF}, "image.resize2d",
    ),
    "resize_corners": (
        "Resize", IMAGE, [None, None, ints(2, 4, 11, 4)], 17, {"mode": "linear", **CORNERS}, "image.resize2d",
    ),
    "resize_to_one": (
        "Resize", IMAGE, [None, None, ints(2, 4, 1, 4)], 17, {"mode": "linear", **CORNERS}, "matmul matmul",
    ),
    "cumsum": ("CumSum", IMAGE, [np.int64(2)], 17, {}, "astype cumsum astype"),
    "cumsum_back": (
        "CumSum", IMAGE, [np.int64(-1)], 17, {"reverse": 1, "exclusive": 1}, "flip astype cumsum astype flip",
    ),
    "resize_cubic": ("Resize", IMAGE, [None, np.float32([1, 1, 2, 3])], 17, {"mode": "cubic", **HALF}, "matmul matmul"),
    "batch_norm": ("BatchNormalization", IMAGE, STATISTICS, 17, {"epsilon": 1e-3}, "nn.batch_norm"),
    "instance_norm": ("InstanceNormalization", IMAGE, STATISTICS[:2], 17, {}, "nn.instance_norm"),
    "clip": ("Clip", IMAGE, [np.float32(-0.2), np.float32(0.6)], 17, {}, "clip"),
    "clip_crossed": ("Clip", IMAGE, [np.float32(0.6), np.float32(-0.2)], 17, {}, "clip"),
    "clip_above": ("Clip", IMAGE, [None, np.float32(0.6)], 17, {}, "clip"),
    "clip_attributes": ("Clip", IMAGE, [], 6, {"min": -0.2, "max": 0.6}, "clip"),
    "prelu": ("PRelu", IMAGE, [weight(4, 1, 1)], 17, {}, "nn.relu minimum multiply add"),
    "hard_swish": ("HardSwish", IMAGE, [], 17, {}, "add clip multiply multiply"),
    "tile": ("Tile", IMAGE, [ints(1, 2, 1, 1)], 17, {}, "tile"),
    "square": ("Pow", IMAGE, [np.float32(2)], 17, {}, "multiply"),
    "dropout": ("Dropout", IMAGE, [np.float32(0.5)], 17, {}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference(name: str, tmp_path: Path, run: Callable, calls: Callable) -> None:
    op, shape, inputs, opset, attributes, operators = CASES[name]
    model = build(op, shape, inputs, opset, **attributes)
    onnx.save(model, tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal(shape, dtype="float32")
    imported = import_model(tmp_path / "m.onnx", x)
    assert " ".join(found for found, _ in calls(imported)) == operators
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    # 3e-6: float32 sums of a few dozen terms; the reference's resize and cubic weights are float64.
    assert_close(run(imported)[0], want, 3e-6)


REFUSED = {
    "conv3d": (("Conv", (1, 2, 3, 3, 3), [weight(2, 2, 1, 1, 1)], 17), {}, "3-D convolution"),
    "max_pool3d": (("MaxPool", (1, 2, 3, 3, 3), [], 17), {"kernel_shape": [2, 2, 2]}, "only 1-D and 2-D pools"),
    "dilated_mean": (
        ("AveragePool", IMAGE, [], 19), {"kernel_shape": [2, 2], "dilations": [2, 1]}, "no dilation where they average",
    ),
    "reflect_too_far": (
        ("Pad", IMAGE, [ints(0, 0, 4, 0, 0, 0, -3, 0)], 17), {"mode": "reflect"},
        "reflects 4 of the 7 values of axis 2",
    ),
    "output_shape": (
        ("ConvTranspose", IMAGE, [weight(4, 3, 3, 3)], 17), {"output_shape": [9, 11]}, "output_shape and auto_pad",
    ),
    "batch_statistics": (
        ("BatchNormalization", IMAGE, STATISTICS, 17), {"training_mode": 1, "outputs": 3}, "in eval mode",
    ),
    "dropout": (("Dropout", IMAGE, [np.float32(0.5), np.bool_(True)], 17), {}, "training_mode is on"),
    "resize_channels": (("Resize", IMAGE, [None, np.float32([1, 2, 1, 1])], 17), {}, "only height and width"),
    "resize_to_one": (
        ("Resize", IMAGE, [None, None, ints(2, 4, 1, 4)], 17), {"mode": "nearest", **CORNERS}, "to a size of 1",
    ),
    "kernel_shape": (
        ("Conv", IMAGE, [weight(3, 4, 3, 3)], 17), {"kernel_shape": [5, 5]}, r"kernel_shape is \[5, 5\]",
    ),
    "pads": (
        ("MaxPool", IMAGE, [], 17), {"kernel_shape": [2, 2], "pads": [0, 2, 0, 0]}, "not smaller than its kernel",
    ),
    "conv_window": (("Conv", IMAGE, [weight(3, 4, 8, 3)], 17), {}, r"larger than its padded input: .* \(2, 3, 0, 7\)"),
    "max_pool_window": (("MaxPool", IMAGE, [], 17), {"kernel_shape": [3, 12]}, r"larger than .* \(2, 4, 5, -2\)"),
    "avg_pool_window": (("AveragePool", IMAGE, [], 17), {"kernel_shape": [8, 3]}, "larger than its padded input"),
    "power_pool_window": (("LpPool", IMAGE, [], 18), {"kernel_shape": [8, 3]}, "larger than its padded input"),
    "resize_scale": (
        ("Resize", IMAGE, [None, np.float32([1, 1, 1.3, 1.3])], 17), {"mode": "nearest"}, "at this scale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_it_cannot_do(name: str, tmp_path: Path) -> None:
    arguments, attributes, message = REFUSED[name]
    onnx.save(build(*arguments, **attributes), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=f"in layer 'node': .*{message}"):
        import_model(tmp_path / "m.onnx")


def test_amounts_that_are_inputs_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "amounts"], ["y"], name="node")],
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE),
            helper.make_tensor_value_info("amounts", TensorProto.INT64, [8]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="Pad in layer 'node': its amounts must be constants"):
        import_model(tmp_path / "m.onnx")
