import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.runtime import tvm_runtime

COEXISTENCE = """
import sys
import numpy as np
from tvm_fastconv import load

path, x = sys.argv[1], np.ones((4, 8), "float32")
model = load(path)
y = model(x)
assert not {"torch", "tvm"} & set(sys.modules), "loading imported PyTorch or the compiler"

import torch
assert torch.equal(model(torch.from_numpy(x)), torch.from_numpy(y))

import tvm
from tvm import relax
bb = relax.BlockBuilder()
a = relax.Var("a", relax.TensorType((2,), "float32"))
with bb.function("main", [a]):
    with bb.dataflow():
        b = bb.emit_output(relax.op.add(a, a))
    bb.emit_func_output(b)
machine = relax.VirtualMachine(tvm.compile(bb.get(), tvm.target.Target("llvm")), tvm.cpu())
assert machine["main"](tvm.runtime.tensor(np.ones(2, "float32"))).numpy().tolist() == [2, 2]
assert np.array_equal(load(path)(x), y) and np.array_equal(model(x), y)
"""


def test_loading_imports_no_torch_and_both_torch_and_compiler_work_afterwards(chain):
    command = [sys.executable, "-c", COEXISTENCE, str(chain.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def test_torch_is_hidden_from_one_thread_only(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Found()])
    results = {}
    with tvm_runtime._without_torch():
        with pytest.raises(ModuleNotFoundError, match="PyTorch is not needed"):
            __import__("torch")
        thread = threading.Thread(target=lambda: results.update(spec=sys.meta_path[0].find_spec("torch")))
        thread.start()
        thread.join()
    assert results == {"spec": None}
    assert len(sys.meta_path) == 1


class Found:
    """A finder that would find PyTorch."""

    def find_spec(self, fullname, path=None, target=None):
        raise AssertionError(f"{fullname} was looked for")


def test_a_library_that_cannot_be_loaded(tmp_path):
    (tmp_path / "m.so").write_bytes(b"\x7fELF")
    with pytest.raises(ArtifactError, match=r"m\.so cannot be loaded as code: .*file too short"):
        tvm_runtime.open_library(str(tmp_path / "m.so"))


def test_one_file_under_two_names_is_one_library(chain, tmp_path):
    # Two modules over one mapping would share the pointer through which generated code finds its module.
    path, link = Path(shutil.copy(chain.path, tmp_path / "a.so")), tmp_path / "b.so"
    link.hardlink_to(path)
    library = tvm_runtime.open_library(str(path))
    assert tvm_runtime.open_library(str(link)) is library
    assert tvm_runtime.open_library(str(chain.path)) is not library


def test_library_path_variable_comes_first(tmp_path, monkeypatch):
    (tmp_path / "libtvm_runtime.so").write_text("")
    assert tvm_runtime.runtime_library().endswith("tvm/lib/libtvm_runtime.so")
    monkeypatch.setenv("TVM_LIBRARY_PATH", str(tmp_path))
    assert tvm_runtime.runtime_library() == str(tmp_path / "libtvm_runtime.so")


def test_versions_of_what_is_not_installed_are_unknown():
    assert tvm_runtime.installed_version("numpy") is not None
    assert tvm_runtime.installed_version("tvm-fastconv-no-such-thing") is None
