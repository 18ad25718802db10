"""ONNX files: names, dynamic sizes, dtypes, what is refused."""

import builtins
import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tvm_fastconv.errors import ModelError  # noqa: E402
from tvm_fastconv.frontend import import_model  # noqa: E402

from ...close import assert_close  # noqa: E402


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU6())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(Block(), nn.MaxPool2d(2, ceil_mode=True))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.body(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


IMAGE = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))


def export(model: nn.Module, path: Path, *, dynamo: bool, dynamic: bool = False) -> Path:
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = {"x": {0: torch.export.Dim("batch")}} if dynamic else None
            torch.onnx.export(model, (IMAGE,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            axes = {"x": {0: "batch"}} if dynamic else None
            torch.onnx.export(model, (IMAGE,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return path


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module", params=[False, True], ids=["torchscript", "dynamo"])
def exported(
    request: pytest.FixtureRequest, net: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param:
        pytest.importorskip("onnxscript", reason="the dynamo exporter needs onnxscript")
    return export(net, tmp_path_factory.mktemp("onnx") / "net.onnx", dynamo=request.param, dynamic=True)


def test_a_file_of_either_exporter_matches_pytorch_for_any_batch(
    exported: Path, net: nn.Module, run: Callable
) -> None:
    imported = import_model(exported)
    assert imported.input_names == ("x",)
    assert len(imported.output_names) == 1
    assert imported.reference is None
    assert imported.example_inputs is None
    assert str(imported.mod["main"].params[0].ty.shape) == "R.shape([batch, 3, 7, 7])"
    for x in (IMAGE, IMAGE[:1]):
        # 3e-6: float32 sums of a few dozen terms, three times
        assert_close(run(imported, x.numpy())[0], net(x), 3e-6)


def test_layers_are_named_after_modules(exported: Path, calls: Callable) -> None:
    found = calls(import_model(exported, IMAGE))
    layers = [layer for op, layer in found if op in ("nn.conv2d", "clip", "nn.max_pool2d", "matmul")]
    assert layers == ["stem", "body.0.conv.0", "body.0.conv.1", "body.1", "fc"]
    assert [layer for op, layer in found if op == "add"][-2] == "body.0"
    assert all(layer for _, layer in found)


def model_of(
    nodes: list,
    inputs: dict[str, Any],
    weights: dict[str, np.ndarray],
    path: Path,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a model whose output is ``y``; a shape of ``None`` is of unknown rank."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_nodes_without_module_path_are_named_by_node_or_output(tmp_path: Path, calls: Callable) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="product"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="product"),
    ]
    path = model_of(nodes, {"x": [2, 3]}, {"w": np.eye(3, dtype="float32")}, tmp_path / "m.onnx")
    assert [layer for _, layer in calls(import_model(path))] == ["first", "b", "product", "product#2"]


@pytest.mark.parametrize("scopes", ["7", "[7, 8]", "[]", "{'a': 1}", "[" * 300])
def test_scopes_of_another_form_name_nothing(scopes: str, tmp_path: Path, calls: Callable) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    entry = node.metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", scopes
    path = model_of([node], {"x": [1, 4]}, {"w": np.eye(4, dtype="float32")}, tmp_path / "m.onnx")
    assert [layer for _, layer in calls(import_model(path))] == ["product"]


def test_unnamed_sizes_are_dynamic_and_inputs_keep_their_names(tmp_path: Path, run: Callable) -> None:
    nodes = [helper.make_node("Relu", ["1"], ["unused"]), helper.make_node("Add", ["left.x", "w"], ["y"])]
    weights = {"w": np.float32([1, 2, 3])}
    imported = import_model(
        model_of(nodes, {"left.x": [None, 3], "1": [None, 3]}, weights, tmp_path / "m.onnx")
    )
    assert imported.input_names == ("left.x", "1")
    assert imported.notices == ()
    first, second = (parameter.ty.shape[0] for parameter in imported.mod["main"].params)
    assert not first.same_as(second)
    (got,) = run(imported, np.ones((4, 3), "float32"), np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(got, [[2, 3, 4]] * 4)


def test_half_precision_is_computed_in_float32(tmp_path: Path, run: Callable) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float16(2))),
        helper.make_node("Mul", ["b", "c"], ["y"]),
    ]
    weights = {"w": np.eye(3, dtype="float16") / 3}
    path = model_of(nodes, {"x": [1, 3]}, weights, tmp_path / "m.onnx", TensorProto.FLOAT16)
    with pytest.warns(UserWarning, match="computes in float16; it is compiled in float32"):
        imported = import_model(path, np.ones((1, 3), "float16"))
    (got,) = run(imported)
    assert got.dtype == np.float32
    assert_close(got, [[2 * np.float16(1 / 3)] * 3], 1e-6)  # one float32 product


def test_all_unsupported_operators_are_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Celu", ["x"], ["a"], name="/block/act/Celu"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"], name="own", domain="my.domain"),
        helper.make_node("NonZero", ["c"], ["y"], name="last"),
    ]
    with pytest.raises(ModelError) as raised:
        import_model(model_of(nodes, {"x": [2, 3]}, {}, tmp_path / "m.onnx"))
    assert str(raised.value).splitlines() == [
        "unsupported operators:",
        "  Celu in layer 'block.act'",
        "  my.domain::Relu in layer 'own'",
        "  NonZero in layer 'last'",
    ]


def test_a_converter_that_fails_names_operator_and_layer(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="own", group=2)]
    weights = {"w": np.ones((2, 3, 3, 3), "float32")}
    path = model_of(nodes, {"x": [1, 3, 8, 8]}, weights, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="cannot import Conv in layer 'own'"):
        import_model(path)
    assert capfd.readouterr().out == ""


def relu(inputs: dict[str, Any], weights: dict[str, np.ndarray] | None = None) -> Callable[[Path], Path]:
    node = helper.make_node("Relu", [next(iter(inputs), "w")], ["y"])
    return lambda path: model_of([node], inputs, weights or {}, path)


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("hello"), "cannot be read as ONNX"),
    "empty": (lambda path: path.write_bytes(b""), "holds no ONNX graph"),
    "no inputs": (relu({}, {"w": np.ones(3, "float32")}), "has no inputs"),
    "zero size": (relu({"x": [0, 3]}), "the input 'x' has a size of 0"),
    "unknown rank": (relu({"x": None}), "the input 'x' is no tensor of known rank"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    make, message = BAD_FILES[name]
    make(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path / "m.onnx")


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "mask"], ["y"])]
    weights = {"w": np.eye(3, dtype="float32"), "mask": np.float32([0, -np.inf, 0])}
    import_model(model_of(nodes, {"x": [2, 3]}, weights, tmp_path / "m.onnx"))
    weights["w"][1, 1], weights["mask"][0] = np.inf, np.nan
    with pytest.raises(ModelError, match=r"NaN or infinite: 'w', 'mask'$"):
        import_model(model_of(nodes, {"x": [2, 3]}, weights, tmp_path / "m.onnx"))


def test_example_inputs_must_fit(tmp_path: Path) -> None:
    path = relu({"x": [2, 3]})(tmp_path / "m.onnx")
    np.testing.assert_array_equal(import_model(path, torch.ones(2, 3)).example_inputs[0], np.ones((2, 3)))
    with pytest.raises(ModelError, match=r"'x' is float32 \(3, 3\); the model takes float32 \(2, 3\)"):
        import_model(path, torch.ones(3, 3))


def test_without_the_onnx_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = relu({"x": [2, 3]})(tmp_path / "m.onnx")
    real_import = builtins.__import__

    def fail_on_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx" or name.startswith("onnx."):
            raise ImportError("No module named 'onnx'")
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(__import__("sys").modules, "tvm_fastconv.frontend.onnx", raising=False)
    monkeypatch.delattr("tvm_fastconv.frontend.onnx", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail_on_onnx)
    with pytest.raises(ModelError, match=r"pip install tvm-fastconv\[onnx\]"):
        import_model(path)
