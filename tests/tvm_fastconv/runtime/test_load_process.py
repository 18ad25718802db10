"""What loading costs and needs, each in a process of its own."""

import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

BLOCKED = ("torch", "tvm", "xgboost", "onnx", "typer", "rich")

START_UP = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))  # None: importing it raises ModuleNotFoundError
import numpy as np
import tvm_fastconv
y = tvm_fastconv.load(sys.argv[1])(np.load(sys.argv[2]))
want = np.load(sys.argv[3])
# 2e-6: four float32 sums of 8 terms, one after the other, in another order
assert np.abs(y - want).max() <= 2e-6 * np.abs(want).max()
"""

MEMORY = """
import sys, threading
import numpy as np
from tvm_fastconv import load
from tvm_fastconv.runtime.tvm_runtime import tvm_ffi

def kilobytes(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

tvm_ffi()
x = np.ones((1, 2048), "float32")
base = kilobytes("VmRSS")
model = load(sys.argv[1], threads=1)
model(x)
threads = [threading.Thread(target=model, args=(x,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(kilobytes("VmRSS") - base, kilobytes("VmHWM") - base)
"""

EMULATED = """
import sys
import numpy as np
import tvm_fastconv
print(tvm_fastconv.load(sys.argv[1])(np.ones((1, 64), "float32")).tolist() == [[64.0] * 64])
try:
    tvm_fastconv.load(sys.argv[2])
except tvm_fastconv.ArtifactError as error:
    print(error)
"""


def run(*command):
    # A hang ends as a failure, after far longer than a busy machine takes.
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_and_runs_without_torch_and_compiler(chain, tmp_path):
    np.save(tmp_path / "x.npy", chain.x)
    np.save(tmp_path / "y.npy", chain.y)
    run(sys.executable, "-c", START_UP, str(chain.path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))


def test_memory_is_weights_once_and_twenty_megabytes(matmul_chain, build, tmp_path):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((2048, 2048)).astype("float32") for _ in range(3)]
    manifest = build(matmul_chain(weights, 1), tmp_path / "m.so")
    resident, peak = map(int, run(sys.executable, "-c", MEMORY, str(tmp_path / "m.so")).split())
    assert manifest.weight_bytes == 3 * 2048 * 2048 * 4
    # Activations are 8 kB each. Eight more threads ran, each with a virtual machine of its own.
    assert resident <= manifest.weight_bytes / 1024 + 20 * 1024
    assert peak <= manifest.weight_bytes / 1024 + 20 * 1024


@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates a lesser x86 CPU")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-x86_64 (Debian: qemu-user)")
def test_emulated_cpu_runs_what_it_can_and_refuses_the_rest(matmul_chain, build, tmp_path):
    mod = matmul_chain([np.ones((64, 64), "float32")], 1)
    build(mod, tmp_path / "avx2.so", "x86_64-linux-gnu -mcpu=haswell")
    build(mod, tmp_path / "avx512.so", "x86_64-linux-gnu -mcpu=skylake-avx512")
    files = (str(tmp_path / "avx2.so"), str(tmp_path / "avx512.so"))
    first, second = run("qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", EMULATED, *files).splitlines()
    assert first == "True"
    assert "avx512.so was compiled for a CPU with avx512bw" in second
    assert "which this CPU lacks" in second
