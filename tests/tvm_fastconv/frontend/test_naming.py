"""Numbering of layers, and labels on nested calls."""

import numpy as np
from tvm import relax

from tvm_fastconv.frontend.naming import Site, labelling, number_layers, unsupported_lines
from tvm_fastconv.relay_passes.graph.layer_names import layer_name


def light(path: str, call: str) -> Site:
    return Site(path, call, heavy=False)


def heavy(path: str, call: str) -> Site:
    return Site(path, call, heavy=True)


def test_all_operators_of_one_call_share_a_name_and_the_next_call_gets_the_next_number() -> None:
    sites = [
        light("relu", "relu"),
        heavy("fc", "fc"),
        light("fc", "fc"),
        light("relu", "relu@1"),
        heavy("fc", "fc@1"),
    ]
    assert number_layers(sites) == ["relu", "fc", "fc", "relu#2", "fc#2"]


def test_an_operator_between_two_calls_keeps_its_own_name() -> None:
    assert number_layers([light("b", "b"), light("b.c", "b.c"), light("b", "b")]) == ["b", "b.c", "b"]


def test_two_convolutions_in_one_call_are_two_layers() -> None:
    sites = [
        light("b", "b"),
        heavy("b", "b"),
        light("b", "b"),
        heavy("b", "b"),
        light("b", "b"),
        heavy("b", "b@1"),
    ]
    assert number_layers(sites) == ["b", "b", "b", "b#2", "b#2", "b#3"]


def test_calls_nested_in_one_expression_are_all_labelled() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            with labelling(builder) as labeller:
                labeller.layer = "first"
                doubled = builder.emit(relax.op.multiply(relax.op.add(x, x), relax.const(np.float32(2))))
                labeller.layer = "second"
                pair = builder.emit((relax.op.nn.relu(doubled), relax.op.exp(relax.op.negative(x))))
                rest = labeller.bound(relax.TupleGetItem(relax.op.split(doubled, 3, axis=1), 1))
            unlabelled = builder.emit(relax.op.abs(rest))
            result = builder.emit_output((pair, unlabelled))
        builder.emit_func_output(result)
    bindings = builder.get()["main"].body.blocks[0].bindings
    found = [(b.value.op.name, layer_name(b.value)) for b in bindings if isinstance(b.value, relax.Call)]
    assert found == [
        ("relax.add", "first"),
        ("relax.multiply", "first"),
        ("relax.nn.relu", "second"),
        ("relax.negative", "second"),
        ("relax.exp", "second"),
        ("relax.split", "second"),
        ("relax.abs", None),
    ]


def test_a_take_reads_nothing_outside_its_tensor() -> None:
    builder = relax.BlockBuilder()
    x, rows = (
        relax.Var("x", relax.TensorType([3, 2], "float32")),
        relax.Var("i", relax.TensorType([4], "int64")),
    )
    with builder.function("main", [x, rows]):
        with labelling(builder) as labeller, builder.dataflow():
            labeller.layer = "rows"
            builder.emit(relax.op.take(x, rows, 0))  # mode="fast" by default
            result = builder.emit_output(builder.emit(relax.op.take(rows, rows)))
        builder.emit_func_output(result)
    calls = [
        b.value
        for block in builder.get()["main"].body.blocks
        for b in block.bindings
        if hasattr(b.value, "op")
    ]
    assert [(str(call.attrs.mode), call.attrs.axis, layer_name(call)) for call in calls] == [
        ("clip", 0, "rows"), ("clip", None, "rows")
    ]  # fmt: skip


def test_unsupported_operators_are_listed_once_with_their_first_layers() -> None:
    found = [("conv3d", f"stage.{i}", "3-D convolution") for i in range(5)]
    found += [
        ("svd", "head", ""),
        ("conv3d", "stem", "of another kind"),
        ("svd", "head", ""),
        ("svd", "tail", ""),
    ]
    assert unsupported_lines(found) == [
        "conv3d in layers 'stage.0', 'stage.1', 'stage.2' and 2 more: 3-D convolution",
        "svd in layers 'head', 'tail'",
        "conv3d in layer 'stem': of another kind",
    ]
