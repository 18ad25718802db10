"""ONNX files that are no valid models: each is refused with one message, most of them by ONNX Runtime too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")

from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

from tvm_fastconv.errors import ModelError  # noqa: E402
from tvm_fastconv.frontend import import_model  # noqa: E402


def convolution(size: str | int = 1, kernel: int = 3) -> ModelProto:
    """Return a valid model: one convolution."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[kernel, kernel])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 3, kernel, kernel), "float32"), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def changed(**fields: int) -> Callable[[ModelProto], None]:
    return lambda model: [setattr(model, name, value) for name, value in fields.items()]


def weight(**fields: object) -> Callable[[ModelProto], None]:
    return lambda model: [setattr(model.graph.initializer[0], name, value) for name, value in fields.items()]


def attribute(name: str, value: object) -> Callable[[ModelProto], None]:
    return lambda model: model.graph.node[0].attribute.append(helper.make_attribute(name, value))


def constant(tensor: TensorProto) -> Callable[[ModelProto], None]:
    node = helper.make_node("Constant", [], ["c"], name="const", value=tensor)
    return lambda model: model.graph.node.append(node)


def shorter(model: ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-16]


def negative(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


DAMAGE: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "newer format": (changed(ir_version=999), "ir_version 999 is higher"),
    "newer opset": (lambda model: setattr(model.opset_import[0], "version", 99), "of opset 99; the installed onnx"),
    "no opset": (lambda model: model.opset_import.pop(), "must specify opset_import"),
    "unknown attribute": (attribute("colour", 3), "Unrecognized attribute: colour for operator Conv"),
    "attribute of another type": (attribute("strides", 3.0), "Mismatched attribute type"),
    "stride of 0": (attribute("strides", [0, 1]), "strides must only contain positive values"),
    "short weight": (shorter, r"the initializer 'w' of shape \(4, 3, 3, 3\) cannot be read: .*104"),
    "long weight": (weight(raw_data=bytes(1000)), "the initializer 'w' of shape"),
    "weight of no values": (weight(raw_data=b""), "the initializer 'w' of shape"),
    "unknown type": (weight(data_type=99), "the initializer 'w' is of the unknown type 99"),
    "no type": (weight(data_type=0), "the initializer 'w' is of the unknown type 0"),
    "negative size": (negative, "Negative dimension value"),
    "short constant": (
        constant(TensorProto(data_type=TensorProto.FLOAT, dims=[2], raw_data=b"1234")),
        r"the constant of Constant 'const' of shape \(2\) cannot be read",
    ),
    "output listed twice": (
        lambda model: model.graph.output.append(model.graph.output[0]), "lists the output 'y' twice",
    ),
    "value made twice": (lambda model: model.graph.node.append(model.graph.node[0]), "single static assignment"),
    "value made nowhere": (lambda model: model.graph.node[0].input.append("b"), "'b' of node"),
    "no weight": (lambda model: model.graph.node[0].input.pop(), "input size 1 not in range"),
    "input left out": (
        lambda model: model.graph.node.append(helper.make_node("Concat", ["y", ""], ["z"], name="both", axis=0)),
        "input 1 of Concat 'both' is left out",
    ),
    "output from nowhere": (lambda model: setattr(model.graph.output[0], "name", "z"), "Graph output 'z'"),
    "sparse weight": (
        lambda model: model.graph.sparse_initializer.add(), "sparse initializers; only dense ones are supported",
    ),
    "shapes that do not fit": (attribute("dilations", [1, 1, 1]), "Attribute dilations has incorrect size"),
}  # fmt: skip


def save(model: ModelProto, folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_the_undamaged_model_is_imported(tmp_path: Path) -> None:
    imported = import_model(save(convolution(), tmp_path))
    assert (imported.input_names, imported.output_names) == (("x",), ("y",))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_refused(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    model = convolution()
    damage(model)
    with pytest.raises(ModelError, match=f"m\\.onnx'.*{message}") as raised:
        import_model(save(model, tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [b"conv", b"Conv", b"kernel_shape", b"w", b"x", b"batch", b"key", b"value"])
def test_names_that_are_no_text_are_refused(name: bytes, tmp_path: Path) -> None:
    model = convolution(size="batch")
    model.graph.node[0].metadata_props.add(key="key", value="value")
    data = model.SerializeToString()
    place = data.index(bytes([len(name)]) + name) + 1
    (tmp_path / "m.onnx").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    with pytest.raises(ModelError, match=r"m\.onnx' holds the name b'\\xff.*', which is not UTF-8"):
        import_model(tmp_path / "m.onnx")


def test_what_onnx_runtime_does_without_is_not_missed(tmp_path: Path) -> None:
    model = convolution(kernel=8)  # more weights than what is looked at as a constant
    model.ir_version = 3  # of which the format says that weights are inputs too
    model.graph.name = ""
    model.graph.node[0].domain = "ai.onnx"
    model.graph.value_info.append(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 7])
    )  # out of date
    assert import_model(save(model, tmp_path)).output_names == ("y",)


def test_weights_in_another_file_are_checked(tmp_path: Path) -> None:
    onnx.save(
        convolution(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert import_model(tmp_path / "m.onnx").input_names == ("x",)
    (tmp_path / "w.bin").write_bytes(bytes(100))
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "name", ["N**9999999", "N//0", "N+1", "2*N", "N-5", "a b", "(N)", "größe", "N;x", "1" * 5000, "n" * 5000]
)
def test_a_dimension_is_a_name_whatever_it_says(name: str, tmp_path: Path) -> None:
    batch, *fixed = import_model(save(convolution(size=name), tmp_path)).mod["main"].params[0].ty.shape
    assert [int(size) for size in fixed] == [3, 8, 8]
    assert str(batch).isidentifier()


def test_dimensions_of_one_name_stay_equal(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["2*N", 3]) for name in "ab"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])], "test", values,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["2*N", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    first, second = (param.ty.shape[0] for param in import_model(save(model, tmp_path)).mod["main"].params)
    assert first.same_as(second)


def test_constants_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "nine"], ["size"]),
            helper.make_node("Expand", ["x", "size"], ["y"]),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([9]), "nine")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_model(save(model, tmp_path))
