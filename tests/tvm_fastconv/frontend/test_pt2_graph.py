"""Strings of a graph are what their place asks for, and nothing that could be code."""

import json

import pytest

from tvm_fastconv.frontend.pt2_graph import UnsafeGraphError, checked_graph


def test_a_size_is_checked_where_it_stands() -> None:
    with pytest.raises(UnsafeGraphError, match=r"size\.as_expr\.expr_str is 'exec', which is no size"):
        checked_graph(json.dumps({"size": {"as_expr": {"expr_str": "exec"}}}).encode())


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.conv2d.default",
        "torch.ops.quantized_decomposed.quantize_per_tensor.default",
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
        "_operator.floordiv",
        "torch.sym_max",
        "math.trunc",
    ],
)
def test_operators_of_tensors_and_sizes(target: str) -> None:
    text = json.dumps({"nodes": [{"target": target, "inputs": []}]}).encode()
    assert json.loads(checked_graph(text)) == json.loads(text)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.higher_order.aoti_call_delegate",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.factorial",
        "#torch.os:x",
        "torch.ops.aten.add.Tensor\n",
        "",
        3,
        None,
    ],
)
@pytest.mark.parametrize("field", ["target", "as_operator"])
def test_other_functions_are_refused(target: object, field: str) -> None:
    with pytest.raises(UnsafeGraphError, match=rf"nodes\[0\]\.{field} is .*; allowed: operators"):
        checked_graph(json.dumps({"nodes": [{field: target}]}).encode())


def test_values_named_like_fields_are_values() -> None:
    """A model may call its inputs as it likes: what stands under a name is checked by its own fields."""
    values = {
        name: {"dtype": 7} for name in ("target", "metadata", "in_spec", "guards_code", "nodes", "expr_str")
    }
    text = json.dumps({"graph": {"tensor_values": values}}).encode()
    assert json.loads(checked_graph(text)) == json.loads(text)


def test_strings_are_free_as_arguments_of_operators_only() -> None:
    argument = {"arg": {"as_string": "Runtime assertion failed: s0 >= 2 'x'"}}
    text = json.dumps({"nodes": [{"inputs": [argument]}]}).encode()
    assert json.loads(checked_graph(text)) == json.loads(text)
    for place in (
        {"inputs": [argument]},
        {"nodes": [{"outputs": [argument]}]},
        {"nodes": [{"inputs": [{"graph": argument}]}]},
    ):
        with pytest.raises(UnsafeGraphError, match="which is no name"):
            checked_graph(json.dumps(place).encode())


def test_of_the_metadata_only_the_layers_are_kept() -> None:
    metadata = {"nn_module_stack": "a,b,c", "source_fn_stack": "x,torch.os.system", "stack_trace": "File"}
    cleaned = json.loads(checked_graph(json.dumps({"nodes": [{"metadata": metadata}]}).encode()))
    assert cleaned == {"nodes": [{"metadata": {"nn_module_stack": "a,b,c"}}]}


@pytest.mark.parametrize("name", ["__class__", "a.__init__.b", "a b", "a;b", "a'", "a\n"])
def test_names_are_names(name: str) -> None:
    for text in ({"inputs": [{"as_tensor": {"name": name}}]}, {name: 1}):
        with pytest.raises(UnsafeGraphError, match="which is no name"):
            checked_graph(json.dumps(text).encode())
