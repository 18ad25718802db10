"""Small compiled files that several tests share. Their functions have no schedule: they are about the file around."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.artifact.build import build_artifact
from tvm_fastconv.artifact.manifest import CallRecord, Manifest
from tvm_fastconv.targets import resolve_target


def matmul(x: te.Tensor, w: te.Tensor) -> te.Tensor:
    k = te.reduce_axis((0, w.shape[0]), "k")
    return te.compute((x.shape[0], w.shape[1]), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), name="matmul")


@pytest.fixture(scope="session")
def matmul_chain() -> Callable[..., tvm.IRModule]:
    """Make ``main(x) = x @ w[0] @ w[1] ...`` for any number of rows, a name meaning a dynamic one."""

    def make(weights: Sequence[np.ndarray], rows: int | str) -> tvm.IRModule:
        bb = relax.BlockBuilder()
        size = rows if isinstance(rows, int) else tvm.tirx.Var(rows, "int64")
        x = relax.Var("x", relax.TensorType((size, weights[0].shape[0]), "float32"))
        with bb.function("main", [x]):
            with bb.dataflow():
                y = x
                for weight in weights:
                    y = bb.emit(bb.call_te(matmul, y, relax.const(weight), primfunc_name_hint="matmul"))
                result = bb.emit_output(y)
            bb.emit_func_output(result)
        return bb.get()

    return make


@pytest.fixture(scope="session")
def call_names() -> Callable[[tvm.IRModule], list[str]]:
    """Return a function that lists the PrimFuncs that ``main`` calls, in order."""

    def names(mod: tvm.IRModule) -> list[str]:
        return [
            binding.value.args[0].name_hint
            for block in mod["main"].body.blocks
            for binding in block.bindings
            if isinstance(binding.value, relax.Call) and binding.value.op == tvm.ir.Op.get("relax.call_tir")
        ]

    return names


@pytest.fixture(scope="session")
def build(call_names: Callable[[tvm.IRModule], list[str]]) -> Callable[..., Manifest]:
    """Return ``build_artifact`` with defaults for everything a test does not care about."""

    def build_with_defaults(mod: tvm.IRModule, path: Path, target: str = "native", **fields: Any) -> Manifest:
        defaults = {
            "input_names": [var.name for var in mod["main"].params],
            "output_names": ["y"],
            "layers": [],
            "calls": [CallRecord(function=name, layer=f"layer{i}") for i, name in enumerate(call_names(mod))],
            "notices": [],
            "verify": "skipped: a test",
        }
        return build_artifact(mod, resolve_target(target), path, **(defaults | fields))

    return build_with_defaults


@pytest.fixture(scope="session")
def chain(
    matmul_chain: Callable[..., tvm.IRModule],
    build: Callable[..., Manifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    """Four products of 4x8 by 8x8 with three different weights, and a reference pair: path, x, y, manifest."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((8, 8)).astype("float32") for _ in range(3)]
    weights.append(weights[0].copy())
    x = rng.standard_normal((4, 8)).astype("float32")
    y = np.linalg.multi_dot([x, *weights])
    path = tmp_path_factory.mktemp("chain") / "chain.so"
    manifest = build(matmul_chain(weights, 4), path, reference_pair=([x], [y]))
    return SimpleNamespace(path=path, x=x, y=y, manifest=manifest)
