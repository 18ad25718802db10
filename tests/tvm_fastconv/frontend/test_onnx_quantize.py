"""Quantized ONNX models, bit for bit as ONNX Runtime computes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra [bench]")

from onnx import NodeProto, TensorProto, helper, numpy_helper  # noqa: E402

from tvm_fastconv.errors import ModelError  # noqa: E402
from tvm_fastconv.frontend import import_model  # noqa: E402
from tvm_fastconv.frontend.onnx_quantize import integer_range  # noqa: E402

SCALES = np.float32([0.1, 0.3, 0.07])
RANDOM = np.random.default_rng(0)
PLAIN, SHIFTED = "divide round clip multiply", "divide round add clip subtract multiply"


def build(
    nodes: list[NodeProto], shape: tuple, constants: dict[str, np.ndarray], opset: int, output: int = 1
) -> onnx.ModelProto:
    """From ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def pair(zero: bool = True, source: str = "x", **attributes: Any) -> list[NodeProto]:
    """From ``x`` to ``y``, by way of integers."""
    further = ["scale", "zero"] if zero else ["scale"]
    dequantizing = {name: value for name, value in attributes.items() if name != "output_dtype"}
    return [
        helper.make_node("QuantizeLinear", [source, *further], ["q"], name="quantize", **attributes),
        helper.make_node("DequantizeLinear", ["q", *further], ["y"], name="dequantize", **dequantizing),
    ]


def around_the_halves(axis: int) -> np.ndarray:
    """Values half-way between two levels of each scale, the numbers next to them, and large ones."""
    middle = np.outer(SCALES, np.arange(-40, 40) + 0.5).astype("float32")
    above, below = (np.nextafter(middle, np.float32(end)) for end in (np.inf, -np.inf))
    x = np.concatenate([middle, above, below, middle * np.float32(1000)], 1).reshape(3, 4, 8, 10)
    return np.ascontiguousarray(np.moveaxis(x, 0, axis))


def by_onnx_runtime(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


# name -> (zero points or None, scales, opset, attributes, the axis of the 3 channels in x, Relax operators)
PAIRS: dict[str, tuple[Any, Any, int, dict[str, Any], int, str]] = {
    "opset 10": (np.uint8(0), SCALES[1], 10, {}, 1, PLAIN),
    "no zero point": (None, SCALES[1], 13, {}, 1, PLAIN),
    "negative": (np.int8(-3), SCALES[0], 13, {}, 1, SHIFTED),
    "odd": (np.uint8([3]), SCALES[:1], 19, {}, 1, SHIFTED),
    "axis 0": (np.int8([0, -3, 5]), SCALES, 13, {"axis": 0}, 0, SHIFTED),
    "axis 1": (np.uint8([0, 3, 5]), SCALES, 13, {}, 1, SHIFTED),
    "last axis": (np.int8([0, 0, 0]), SCALES, 19, {"axis": -1}, 3, PLAIN),
    "equal channels": (np.int8([2, 2, 2]), SCALES[[1, 1, 1]], 13, {"axis": 1}, 1, SHIFTED),
    "int4": (np.array(-3, ml_dtypes.int4), SCALES[1], 21, {}, 1, SHIFTED),
    "uint4": (np.array([0, 3, 5], ml_dtypes.uint4), SCALES, 21, {"axis": 1}, 1, SHIFTED),
    "int16": (np.int16(-300), SCALES[1], 21, {}, 1, SHIFTED),
    "output_dtype": (None, SCALES[1], 21, {"output_dtype": TensorProto.INT8}, 1, PLAIN),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_match_onnx_runtime_bit_for_bit(
    name: str, tmp_path: Path, run: Callable, calls: Callable
) -> None:
    zero, scale, opset, attributes, axis, operators = PAIRS[name]
    constants = {"scale": np.asarray(scale)} | ({} if zero is None else {"zero": np.asarray(zero)})
    x = around_the_halves(axis)
    model = build(pair(zero is not None, **attributes), x.shape, constants, opset)
    onnx.save(model, tmp_path / "m.onnx")
    imported = import_model(tmp_path / "m.onnx", x)
    assert " ".join(op for op, _ in calls(imported)) == operators
    assert {layer for _, layer in calls(imported)} == {"quantize", "dequantize"}
    np.testing.assert_array_equal(run(imported)[0], by_onnx_runtime(model, x))


# name -> (levels, zero points or None, scales, opset, attributes)
STORED: dict[str, tuple[np.ndarray, Any, Any, int, dict[str, Any]]] = {
    "opset 10": (RANDOM.integers(-128, 128, (40, 50), "int8"), np.int8(-3), SCALES[1], 10, {}),
    "small": (RANDOM.integers(-128, 128, (2, 3), "int8"), np.int8([0, -3, 5]), SCALES, 13, {}),
    "axis 0": (RANDOM.integers(0, 256, (3, 500), "uint8"), np.uint8([0, 3, 255]), SCALES, 13, {"axis": 0}),
    "axis -1": (RANDOM.integers(-128, 128, (500, 3), "int8"), None, SCALES, 13, {"axis": -1}),
    "int4": (RANDOM.integers(-8, 8, (500, 3)).astype(ml_dtypes.int4), None, SCALES, 21, {}),
    "uint4": (
        RANDOM.integers(0, 16, (500, 3)).astype(ml_dtypes.uint4), np.array([0, 3, 15], ml_dtypes.uint4), SCALES, 21, {},
    ),
    "bias": (RANDOM.integers(-9999, 9999, 3, "int32"), None, SCALES, 13, {"axis": 0}),
    "blocks": (
        RANDOM.integers(-8, 8, (500, 6)).astype(ml_dtypes.int4), None, RANDOM.random((500, 3), "float32"), 21,
        {"block_size": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_stored_integers_become_float_constants(
    name: str, tmp_path: Path, run: Callable, calls: Callable
) -> None:
    level, zero, scale, opset, attributes = STORED[name]
    constants = {"w": level, "scale": np.asarray(scale)} | (
        {} if zero is None else {"zero": np.asarray(zero)}
    )
    nodes = [
        helper.make_node("DequantizeLinear", [*constants], ["f"], **attributes),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    model = build(nodes, level.shape, constants, opset)
    onnx.save(model, tmp_path / "m.onnx")
    x = np.zeros(level.shape, "float32")
    imported = import_model(tmp_path / "m.onnx", x)
    assert [op for op, _ in calls(imported)] == ["add"]
    np.testing.assert_array_equal(run(imported)[0], by_onnx_runtime(model, x))


def test_float_weights_are_quantized_when_imported(tmp_path: Path, run: Callable, calls: Callable) -> None:
    weight = around_the_halves(0)
    nodes = [
        *pair(source="w", axis=0)[:1],
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["f"], axis=0),
    ]
    nodes.append(helper.make_node("Add", ["x", "f"], ["y"]))
    model = build(nodes, weight.shape, {"w": weight, "scale": SCALES, "zero": np.int8([0, -3, 5])}, 13)
    onnx.save(model, tmp_path / "m.onnx")
    x = np.zeros_like(weight)
    imported = import_model(tmp_path / "m.onnx", x)
    assert [op for op, _ in calls(imported)] == ["add"]
    np.testing.assert_array_equal(run(imported)[0], by_onnx_runtime(model, x))


def test_integers_that_others_read_are_integers(tmp_path: Path, run: Callable, calls: Callable) -> None:
    x, constants = around_the_halves(1), {"scale": SCALES[1], "zero": np.int8(-3)}
    nodes = [helper.make_node("QuantizeLinear", ["x", *constants], ["y"])]
    model = build(nodes, x.shape, constants, 13, TensorProto.INT8)
    onnx.save(model, tmp_path / "m.onnx")
    (got,) = run(import_model(tmp_path / "m.onnx", x))
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, by_onnx_runtime(model, x))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *constants], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("DequantizeLinear", ["t", *constants], ["y"]),
    ]
    model = build(nodes, x.shape, constants, 13)
    onnx.save(model, tmp_path / "m.onnx")
    imported = import_model(tmp_path / "m.onnx", x)
    assert " ".join(op for op, _ in calls(imported)) == (
        "divide round add clip astype permute_dims astype subtract multiply"
    )
    np.testing.assert_array_equal(run(imported)[0], by_onnx_runtime(model, x))


FLOAT8 = np.array(0, ml_dtypes.float8_e4m3fn)
REFUSED: dict[str, tuple[list[NodeProto], np.ndarray, Any, str]] = {
    "float8": (pair(), FLOAT8, SCALES[1], "quantization to float8e4m3fn: only integers"),
    "blocks": (
        pair(block_size=2, axis=3), np.zeros((3, 4, 8, 5), "int8"), np.ones((3, 4, 8, 5), "float32"),
        "a scale for each block",
    ),
    "four bits": (
        [
            *pair()[:1],
            helper.make_node("Transpose", ["q"], ["t"]),
            helper.make_node("DequantizeLinear", ["t", "scale", "zero"], ["y"]),
        ],
        np.array(0, ml_dtypes.int4), SCALES[1], "its int4 values are used by other operators than DequantizeLinear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_it_cannot_do(name: str, tmp_path: Path) -> None:
    nodes, zero, scale, message = REFUSED[name]
    model = build(nodes, (3, 4, 8, 10), {"scale": np.asarray(scale), "zero": zero}, 21)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=f"QuantizeLinear in layer 'quantize': {message}"):
        import_model(tmp_path / "m.onnx")


def test_integer_ranges() -> None:
    assert [integer_range(dtype) for dtype in ("uint4", "int8")] == [(0, 15), (-128, 127)]
