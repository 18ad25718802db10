import contextlib
import copy as copying
import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from tvm_fastconv.artifact.artifact import SEAL_SIZE, amend_manifest, read_artifact, seal
from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.runtime.compiled_model import CompiledModel, load

from ...close import assert_close

TOLERANCE = 2e-6  # up to four float32 sums of 8 terms, one after the other, in another order


@pytest.fixture
def copy(chain, tmp_path):
    return Path(shutil.copy(chain.path, tmp_path / "copy.so"))


def mappings(path):
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_numpy_in_numpy_out(chain):
    y = load(chain.path)(chain.x)
    assert isinstance(y, np.ndarray)
    assert y.flags.writeable
    assert_close(y, chain.y, TOLERANCE)


def test_torch_in_torch_out(chain):
    y = load(chain.path)(torch.from_numpy(chain.x).requires_grad_())
    assert isinstance(y, torch.Tensor)
    assert_close(y, chain.y, TOLERANCE)


def test_wrong_input_runs_nothing(chain):
    model = load(chain.path)
    with pytest.raises(InputError, match=r"input x has shape \(4, 7\); expected \(4, 8\)"):
        model(chain.x[:, :7])


def test_outputs_stay_valid_after_more_calls_and_after_the_model(copy, chain):
    model = load(copy)
    first = model(chain.x)
    second = model(2 * chain.x)
    del model
    gc.collect()
    assert mappings(copy) == 0, "the library is still mapped"
    assert_close(first, chain.y, TOLERANCE)
    assert_close(second, 2 * chain.y, TOLERANCE)


def test_outputs_that_are_inputs_or_weights_are_copies(build, tmp_path):
    bb = relax.BlockBuilder()
    weight = np.arange(6, dtype="float32").reshape(2, 3)
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            flat = bb.emit(bb.call_te(tvm.topi.reshape, x, (6,), primfunc_name_hint="reshape"))
            result = bb.emit_output(relax.Tuple([x, flat, relax.const(weight), relax.const(np.float32(2))]))
        bb.emit_func_output(result)
    build(bb.get(), tmp_path / "m.so", output_names=["x", "flat", "weight", "scalar"])
    model = load(tmp_path / "m.so")
    value = torch.ones(2, 3)  # aligned, so handed over without a copy
    same, flat, constant, scalar = model(value)
    value[:], constant[:] = 5, 5
    assert same.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert flat.tolist() == [1] * 6
    assert scalar == 2
    np.testing.assert_array_equal(model(value)[2], weight)


def test_dynamic_dimension(matmul_chain, build, tmp_path):
    weight = np.random.default_rng(0).standard_normal((3, 2)).astype("float32")
    manifest = build(matmul_chain([weight], "batch"), tmp_path / "m.so")
    assert str(manifest.inputs[0]) == "x (batch, 3) float32"
    model = load(tmp_path / "m.so")
    for batch in (1, 7, 2):
        x = np.random.default_rng(batch).standard_normal((batch, 3)).astype("float32")
        assert_close(model(x), x @ weight, TOLERANCE)


def test_eight_threads_at_once(matmul_chain, build, tmp_path):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((64, 64)).astype("float32") for _ in range(6)]
    build(matmul_chain(weights, 32), tmp_path / "m.so")
    model = load(tmp_path / "m.so", threads=1)
    inputs = [rng.standard_normal((32, 64)).astype("float32") for _ in range(8)]
    expected = [model(x) for x in inputs]
    wrong, barrier = [], threading.Barrier(8)

    def run(i):
        barrier.wait()
        for _ in range(50):
            y = model(inputs[i])
            if not np.array_equal(y, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_replaced_file_is_loaded_anew(matmul_chain, build, tmp_path):
    path = tmp_path / "m.so"
    one = np.ones((1, 1), "float32")
    build(matmul_chain([one], 1), path)
    first = load(path)
    build(matmul_chain([2 * one], 1), path)
    second = load(path)
    assert (first(one), second(one)) == (1, 2)


def test_a_file_loaded_twice_is_mapped_once(copy, chain):
    first = load(copy)
    count = mappings(copy)
    second = load(copy)
    assert mappings(copy) == count
    del first
    gc.collect()
    assert_close(second(chain.x), chain.y, TOLERANCE)


def test_works_and_saves_after_its_file_is_gone(copy, chain, tmp_path):
    model = load(copy)
    copy.unlink()
    assert_close(model(chain.x), chain.y, TOLERANCE)
    assert model.check() < 1e-6  # float32 products summed in another order
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == chain.path.read_bytes()
    assert_close(load(tmp_path / "saved")(chain.x), chain.y, TOLERANCE)


def test_save_refuses_a_folder(chain, tmp_path):
    with pytest.raises(ArtifactError, match="is a folder"):
        load(chain.path).save(tmp_path)


def test_check_finds_a_wrong_reference(matmul_chain, build, tmp_path):
    one = np.ones((1, 1), "float32")
    build(matmul_chain([one], 1), tmp_path / "m.so", reference_pair=([one], [one * 1.25]))
    assert load(tmp_path / "m.so").check() == 0.2
    build(matmul_chain([one], 1), tmp_path / "m.so", reference_pair=([one], [one * np.nan]))
    assert load(tmp_path / "m.so").check() == float("inf")
    build(matmul_chain([one], 1), tmp_path / "m.so")
    with pytest.raises(ArtifactError, match="has no reference input and output"):
        load(tmp_path / "m.so").check()


def test_other_machine_is_told_before_loading_but_can_be_inspected(copy, tmp_path):
    with open(copy, "r+b") as file:
        file.seek(18)
        file.write(b"\xf3\x00")
        file.truncate(os.path.getsize(copy) - SEAL_SIZE)
    seal(copy)
    with pytest.raises(ArtifactError, match=r"copy\.so holds code for riscv64; this process runs "):
        load(copy)
    model = CompiledModel(read_artifact(copy))
    assert model.manifest.inputs[0].name == "x"
    model.save(tmp_path / "again.so")
    with pytest.raises(ArtifactError, match="holds code for riscv64"):
        model(np.zeros((4, 8), "float32"))


def test_missing_cpu_features_are_told_before_loading(copy):
    amend_manifest(copy, cpu_features=("avx2", "teleport"))
    with pytest.raises(ArtifactError, match="compiled for a CPU with teleport, which this CPU lacks"):
        load(copy)


def test_other_versions_are_told_before_loading(copy, chain):
    amend_manifest(copy, abi=chain.manifest.abi.replace("tvm-0.27", "tvm-0.26"))
    with pytest.raises(
        ArtifactError, match=r"was compiled for .* tvm-0\.26 .*; this process has .* tvm-0\.27"
    ):
        load(copy)


def test_layers_and_repr(chain):
    model = load(chain.path)
    assert model.layers == []
    assert repr(model) == f"<CompiledModel {chain.path}: x (4, 8) float32 -> y (4, 8) float32; 0 layers>"


IN_PLACE = """
import sys
import numpy as np
from tvm_fastconv import load
model = load(sys.argv[1], copy=sys.argv[2] == "copy")
with open(sys.argv[1], "r+b") as file:
    file.truncate(0)
print(model(np.ones((4, 8), "float32")).shape)
"""


def test_a_private_copy_outlives_changes_in_place(copy, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    codes = []
    for how in ("copy", "map"):
        shutil.copy(copy, tmp_path / "m.so")
        command = [sys.executable, "-c", IN_PLACE, str(tmp_path / "m.so"), how]
        codes.append(subprocess.run(command, capture_output=True, env=environment).returncode)
    assert codes[0] == 0
    assert codes[1] < 0, "the copy is not needed"
    assert sorted(os.listdir(tmp_path)) == ["copy.so", "m.so"]


def test_a_private_copy_says_where_there_is_no_room(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tvm_fastconv.runtime.compiled_model.temporary_folder",
        lambda: contextlib.nullcontext(Path("/dev/full")),
    )
    with pytest.raises(ArtifactError, match="cannot copy a compiled model to /dev: "):
        load(copy, copy=True)


def test_a_copy_is_the_model_itself(chain):
    model = load(chain.path)
    assert copying.copy(model) is model
    assert copying.deepcopy({"model": model})["model"] is model


def test_a_pickled_model_is_its_path_and_checksum(copy, chain):
    pickled = pickle.dumps(load(copy, threads=1))
    assert len(pickled) < 500
    model = pickle.loads(pickled)
    assert model._threads == 1
    np.testing.assert_array_equal(model(chain.x), load(copy)(chain.x))


def test_a_model_without_a_file_is_pickled_whole(copy, chain):
    model = load(copy)
    want = model(chain.x)
    copy.unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(chain.x), want)
    shutil.copy(chain.path, copy)  # the same bytes under the same name, but another file
    assert len(pickle.dumps(model)) > 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(load(copy, copy=True)))(chain.x), want)


def test_a_file_that_changed_after_it_was_pickled_is_refused(copy, build, matmul_chain):
    pickled = pickle.dumps(load(copy))
    build(matmul_chain([np.ones((8, 8), "float32")], 4), copy)
    with pytest.raises(
        ArtifactError, match=r"copy\.so is not the file that was pickled: its checksum is crc32:"
    ):
        pickle.loads(pickled)
    copy.unlink()
    with pytest.raises(ArtifactError, match="cannot open"):
        pickle.loads(pickled)


def test_through_a_spawned_process(copy, chain):
    model = load(copy)
    unlinked = load(copy, copy=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for each in (model, unlinked):
            np.testing.assert_array_equal(pool.apply(each, (chain.x,)), model(chain.x))


def test_a_manifest_that_does_not_fit_the_code_is_one_message(copy, chain):
    spec = chain.manifest.inputs[0]
    wider = replace(spec, shape=(4, 9))
    amend_manifest(copy, inputs=(wider,), reference=None)
    with pytest.raises(ArtifactError, match=r"copy\.so cannot run: "):
        load(copy)(np.ones((4, 9), "float32"))
