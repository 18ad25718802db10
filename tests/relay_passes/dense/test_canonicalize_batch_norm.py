import operator

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from torch import nn
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.dense.canonicalize_batch_norm import CanonicalizeBatchNorm
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.graph.source_values import source_values

from ...close import assert_close
from ..evaluate import evaluate


def _random(rng: np.random.Generator, *shape: int) -> relax.Expr:
    return relax.const(rng.standard_normal(shape, np.float32))


def _network(order: str, padding: int = 1, branch: bool = False) -> tvm.IRModule:
    """``order`` spells the layers: c(onvolution), a(dd bias), b(atch norm), r(elu), t(ransposed convolution)."""
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 8, 6, 6), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = x
            for letter in order:
                if letter == "c":
                    y = builder.emit(relax.op.nn.conv2d(y, _random(rng, 8, 8, 3, 3), padding=padding))
                elif letter == "t":
                    y = builder.emit(
                        relax.op.nn.conv2d_transpose(y, _random(rng, 8, 8, 3, 3), padding=padding)
                    )
                elif letter == "a":
                    y = builder.emit(relax.op.add(y, _random(rng, 1, 8, 1, 1)))
                elif letter == "r":
                    y = builder.emit(relax.op.nn.relu(y))
                else:
                    variance = relax.const(rng.uniform(0.5, 2, 8).astype("float32"))
                    norm = relax.op.nn.batch_norm(
                        y, _random(rng, 8), _random(rng, 8), _random(rng, 8), variance, axis=1, training=False
                    )
                    before, y = y, builder.emit(relax.TupleGetItem(builder.emit(norm), 0))
            if branch:
                y = builder.emit(relax.op.add(y, before))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()


def _ops(mod: tvm.IRModule) -> list[str]:
    return [name for block in mod["main"].body.blocks for b in block.bindings if (name := op_name(b.value))]


@pytest.mark.parametrize(
    ("order", "padding", "expected"),
    [
        ("cb", 1, ["nn.conv2d", "add"]),
        ("cab", 1, ["nn.conv2d", "add"]),
        ("cabr", 1, ["nn.conv2d", "add", "nn.relu"]),
        ("tb", 1, ["nn.conv2d_transpose", "add"]),
        ("bc", 0, ["nn.conv2d", "add"]),
        ("bc", 1, ["multiply", "add", "nn.conv2d"]),  # the border is padded with 0, not with the shift
        ("crb", 1, ["nn.conv2d", "nn.relu", "multiply", "add"]),
        ("cbcb", 0, ["nn.conv2d", "add", "nn.conv2d", "add"]),
    ],
)
def test_folds_where_it_is_exact(order: str, padding: int, expected: list[str]) -> None:
    before = _network(order, padding)
    after = CanonicalizeBatchNorm()(before)
    assert _ops(after) == expected
    want = evaluate(before, np.random.default_rng(1).standard_normal((2, 8, 6, 6), np.float32))
    got = evaluate(after, np.random.default_rng(1).standard_normal((2, 8, 6, 6), np.float32))
    # 2e-6: one multiplication moved from the sum to its 72 weights
    assert_close(got, want, 2e-6)


def test_a_convolution_that_others_read_keeps_its_weights() -> None:
    after = CanonicalizeBatchNorm()(_network("cb", branch=True))
    assert _ops(after) == ["nn.conv2d", "multiply", "add", "add"]


def test_before_and_after() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 1, 4, 4), "float32")) -> R.Tensor((1, 1, 4, 4), "float32"):
            with R.dataflow():
                a = R.add(x, R.const(np.full((1, 1, 1, 1), 2, "float32")))
                b = R.add(a, R.const(np.full((1, 1, 1, 1), 3, "float32")))
                R.output(b)
            return b

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 1, 4, 4), "float32")) -> R.Tensor((1, 1, 4, 4), "float32"):
            with R.dataflow():
                b = R.add(x, R.const(np.full((1, 1, 1, 1), 5, "float32")))
                R.output(b)
            return b

    assert tvm_ffi.structural_equal(CanonicalizeBatchNorm()(Before), After, map_free_vars=True)


def test_what_the_norm_stands_for_in_the_source_is_kept() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval(), torch.randn(1, 3, 9, 9)
    imported = import_model(model, x)
    mod = tvm.transform.Sequential([*pipeline.simplify(), CanonicalizeBatchNorm()])(imported.mod)
    left = {binding.var for block in mod["main"].body.blocks for binding in block.bindings}
    names = {value.name for var, value in source_values(mod).items() if var in left}
    norms = {node.name for node in imported.program.graph.nodes if node.target is operator.getitem}
    assert norms & names
