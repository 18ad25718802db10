"""Constant arithmetic in ONNX graphs."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [onnx]")

from onnx import ModelProto, TensorProto, helper, numpy_helper

from tvm_fastconv.frontend.onnx_fold import fold_shape_arithmetic


def model(nodes: list, shape: list, weights: dict[str, np.ndarray]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def initializers(folded: ModelProto) -> dict[str, list]:
    return {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in folded.graph.initializer}


def test_the_fixed_part_of_a_shape_becomes_a_constant() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["channels"]),
        helper.make_node("Div", ["channels", "two"], ["half"]),
        helper.make_node("Slice", ["x", "zero", "half", "one"], ["y"]),
    ]
    weights = {"zero": np.int64([0]), "one": np.int64([1]), "two": np.int64([2])}
    folded = model(nodes, ["batch", 6, 5], weights)
    fold_shape_arithmetic(folded)
    assert [node.op_type for node in folded.graph.node] == ["Slice"]
    assert initializers(folded) == {"zero": [0], "one": [1], "half": [3]}  # what nothing uses is gone


def test_the_dynamic_part_of_a_shape_stays() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    folded = model(nodes, ["batch", 6, 5], {"zero": np.int64([0]), "rest": np.int64([30])})
    fold_shape_arithmetic(folded)
    assert [node.op_type for node in folded.graph.node] == ["Shape", "Gather", "Concat", "Reshape"]


def test_a_folded_reshape_fixes_the_shapes_after_it() -> None:
    nodes = [
        helper.make_node("Floor", ["size"], ["whole"]),
        # More than shape inference follows.
        helper.make_node("Cast", ["whole"], ["six"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "six"], ["flat"]),
        helper.make_node("Shape", ["flat"], ["sizes"]),
        helper.make_node("Reshape", ["flat", "sizes"], ["y"]),
    ]
    folded = model(nodes, [2, 3], {"size": np.float32([6.5])})
    fold_shape_arithmetic(folded)
    assert [node.op_type for node in folded.graph.node] == ["Reshape", "Reshape"]


@pytest.mark.parametrize(("op", "inputs", "size"), [("Neg", ["w"], 2000), ("RandomNormalLike", ["w"], 4)])
def test_large_weights_and_random_numbers_stay_in_the_graph(op: str, inputs: list[str], size: int) -> None:
    nodes = [helper.make_node(op, inputs, ["a"]), helper.make_node("Add", ["x", "a"], ["y"])]
    folded = model(nodes, [size], {"w": np.ones(size, "float32")})
    fold_shape_arithmetic(folded)
    assert len(folded.graph.node) == 2


def test_an_output_is_never_folded_away() -> None:
    folded = model([helper.make_node("Neg", ["w"], ["y"])], [2], {"w": np.ones(2, "float32")})
    fold_shape_arithmetic(folded)
    assert [node.op_type for node in folded.graph.node] == ["Neg"]
