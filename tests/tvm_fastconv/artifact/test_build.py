import os
import subprocess
import sys

import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.artifact.artifact import read_artifact
from tvm_fastconv.artifact.build import write_tensors
from tvm_fastconv.artifact.manifest import CallRecord
from tvm_fastconv.errors import ArtifactError, TargetError
from tvm_fastconv.runtime.compiled_model import load
from tvm_fastconv.typed_json import to_json

from ...close import assert_close

rng = np.random.default_rng(0)

SAME_FILE = """
import numpy as np
from tvm import relax, te
from tvm_fastconv.artifact.build import build_artifact
from tvm_fastconv.artifact.manifest import CallRecord
from tvm_fastconv.targets import resolve_target

bb = relax.BlockBuilder()
x = relax.Var("x", relax.TensorType((3,), "float32"))
with bb.function("main", [x]):
    with bb.dataflow():
        y = x
        for i in range(12):
            weight = relax.const(np.full(3, i, "float32"))
            scaled = lambda a, b: te.compute((3,), lambda j: a[j] * b[j] + i, name="scaled")
            y = bb.emit(bb.call_te(scaled, y, weight, primfunc_name_hint=f"scaled{i}"))
        y = bb.emit_output(y)
    bb.emit_func_output(y)
build_artifact(
    bb.get(), resolve_target("x86_64-linux-gnu"), PATH, input_names=["x"], output_names=["y"], layers=[],
    calls=[CallRecord(function=f"scaled{i}", layer=None) for i in range(12)], notices=[], verify="",
)
"""


def test_same_input_same_bytes_in_another_process(tmp_path):
    (tmp_path / "other").mkdir()
    here, there = tmp_path / "here.so", tmp_path / "other/there.so"
    exec(f"PATH = {str(here)!r}" + SAME_FILE, {})
    script = f"PATH = {str(there)!r}" + SAME_FILE
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": "1"}, check=True)
    assert here.read_bytes() == there.read_bytes()
    assert str(tmp_path).encode() not in here.read_bytes()


def test_plain_tvm_runs_the_file(chain):
    vm = relax.VirtualMachine(tvm.runtime.load_module(str(chain.path)), tvm.cpu())
    y = vm["main"](tvm.runtime.tensor(chain.x)).numpy()
    assert_close(y, chain.y, 2e-6)  # four float32 sums of 8 terms, one after the other, in another order


def test_equal_weights_lie_in_the_file_once_at_multiples_of_64(chain):
    assert [weight.offset for weight in chain.manifest.weights] == [0, 256, 512]
    assert chain.manifest.weight_bytes == 3 * 256


def test_manifest_says_what_was_built(chain):
    manifest = chain.manifest
    assert [str(spec) for spec in (*manifest.inputs, *manifest.outputs)] == [
        "x (4, 8) float32",
        "y (4, 8) float32",
    ]
    assert [(call.function, call.layer) for call in manifest.calls] == [
        ("matmul", f"layer{i}") for i in range(4)
    ]
    assert manifest.tvm_version == tvm.__version__
    assert manifest.cpu_features


DTYPES = ["float32", "float64", "float16", "int8", "uint8", "int16", "int32", "uint32", "int64", "bool"]


def test_weights_of_every_dtype_arrive_unchanged(build, tmp_path):
    arrays = [rng.integers(0, 2, (2, 3, 1, 5)).astype(dtype) for dtype in DTYPES]
    bb = relax.BlockBuilder()
    with bb.function("main", []):
        bb.emit_func_output(relax.Tuple([relax.const(array, array.dtype.name) for array in arrays]))
    build(bb.get(), tmp_path / "m.so", output_names=DTYPES)
    for got, array in zip(load(tmp_path / "m.so")(), arrays, strict=True):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_weight_function_refuses_other_numbers(chain):
    weight = tvm.runtime.load_module(str(chain.path)).get_function("fastconv_weight", query_imports=True)
    assert weight(2).shape == (8, 8)
    for argument in (3, -1, "0"):
        with pytest.raises(ValueError, match="takes the number of a weight"):
            weight(argument)


def test_calls_that_lowering_drops_are_dropped_and_others_refused(build, tmp_path):
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    double = lambda a: te.compute(a.shape, lambda *i: a(*i) * 2, name="double")  # noqa: E731
    with bb.function("main", [x]):
        with bb.dataflow():
            y = bb.emit(bb.call_te(double, x, primfunc_name_hint="double"))
            y = bb.emit(bb.call_te(tvm.topi.reshape, y, (6,), primfunc_name_hint="reshape"))
            y = bb.emit_output(bb.call_te(double, y, primfunc_name_hint="last"))
        bb.emit_func_output(y)
    calls = [
        CallRecord(function="double", layer="a", inputs=(0,)),
        CallRecord(function="reshape", layer="b", reads=(0,)),
        CallRecord(function="last", layer="c", reads=(1,), is_output=True),
    ]
    manifest = build(bb.get(), tmp_path / "m.so", calls=calls)
    assert [to_json(call) for call in manifest.calls] == [
        {"function": "double", "layer": "a", "reads": [], "inputs": [0], "is_output": False},
        {"function": "last", "layer": "c", "reads": [0], "inputs": [], "is_output": True},
    ]
    with pytest.raises(ValueError, match="not in this order in calls"):
        build(bb.get(), tmp_path / "n.so", calls=calls[::-1])
    assert os.listdir(tmp_path) == ["m.so"]


@pytest.mark.parametrize("name", [".", "missing/m.so"])
def test_unwritable_output(build, matmul_chain, tmp_path, name):
    with pytest.raises(ArtifactError, match=r"is a folder|cannot write"):
        build(matmul_chain([np.eye(2, dtype="float32")], 1), tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "cc", "message"),
    [
        ("native", "no-such-cc -x", "C compiler 'no-such-cc -x' for .* not found"),
        ("native", "false", "the C compiler failed: false"),
        ("native", "", "C compiler '' .* not found"),
    ],
)
def test_missing_or_failing_compiler_leaves_the_old_file(build, matmul_chain, tmp_path, target, cc, message):
    (tmp_path / "m.so").write_text("old")
    with pytest.raises(TargetError, match=message):
        build(matmul_chain([np.eye(2, dtype="float32")], 1), tmp_path / "m.so", target, cc=cc)
    assert os.listdir(tmp_path) == ["m.so"]
    assert (tmp_path / "m.so").read_text() == "old"


def test_an_odd_file_name_is_only_a_name(build, matmul_chain, tmp_path):
    build(matmul_chain([np.eye(2, dtype="float32")], 1), tmp_path / "-o weights.bin")
    np.testing.assert_array_equal(load(tmp_path / "-o weights.bin")(np.ones((1, 2), "float32")), [[1, 1]])


@pytest.mark.arm
def test_cross_compiled_file_is_of_its_machine(build, matmul_chain, tmp_path):
    build(matmul_chain([np.eye(2, dtype="float32")], 1), tmp_path / "m.so", "aarch64-linux-gnu")
    artifact = read_artifact(tmp_path / "m.so")
    assert artifact.elf.machine == "aarch64"
    assert artifact.manifest.abi.startswith("aarch64 ")


def test_stored_tensors_are_dense(tmp_path):
    arrays = [rng.standard_normal((3, 5)).T, np.float32(7), np.arange(4)[::2]]
    table = write_tensors(tmp_path / "t", arrays)
    data = (tmp_path / "t").read_bytes()
    assert [entry.offset for entry in table] == [0, 128, 192]
    np.testing.assert_array_equal(np.frombuffer(data, "float64", 15).reshape(5, 3), arrays[0])
