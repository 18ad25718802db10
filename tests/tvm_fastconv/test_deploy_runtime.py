"""A kit for TVM's runtime: dynamic batches, in C, C++ and Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv import kit_runtime
from tvm_fastconv.errors import ArtifactError, ModelError, TargetError
from tvm_fastconv.kit_runtime import LIBRARIES, write_runtime

from .test_deploy import Two, _sh, needs_cmake

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """Two outputs, one of them without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.relu(self.conv(x))
        return self.linear(found.mean((2, 3))), found.amax((0, 2, 3))


def _dynamic(model: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("n", min=1, max=64)
    return torch.export.export(model.eval(), inputs, dynamic_shapes=[{0: batch}] * len(inputs))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> fc.Kit:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 10, 10)
    folder = tmp_path_factory.mktemp("kits") / "kit"
    return fc.deploy(_dynamic(Net(), x), x, folder=folder, name="net", tvm_runtime=True)


@pytest.fixture(scope="module")
def built(kit: fc.Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy somewhere else, in which both commands of its README were run."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    place = Path(shutil.copytree(kit.folder, tmp_path_factory.mktemp("device") / "kit"))
    commands = re.search(r"```\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)
    assert commands is not None
    for command in commands[1].splitlines():
        done = _sh(command, place)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
    return place


def test_the_readme_tells_of_the_batch(kit: fc.Kit) -> None:
    text = (kit.folder / "README.md").read_text()
    assert "`x` (batch x 3 x 10 x 10, float32)" in text
    assert "`batch` is the batch, of any size" in text
    assert "| `runtime/libtvm_runtime.so` |" in text
    assert "@" not in re.sub(r"\S+@\S+\.\w+", "", text)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_three_languages_and_any_batch(batch: int, kit: fc.Kit, built: Path) -> None:
    x = np.random.default_rng(batch).standard_normal((batch, 3, 10, 10), np.float32)
    want = kit.compiled(x)
    x.tofile(built / "x.bin")
    np.save(built / "x.npy", x)
    for command in (
        "build/net run x.bin c0.bin c1.bin",
        "build/net run x.bin t0.bin t1.bin 3",
        "build/net_cc x.bin cc0.bin cc1.bin",
        f"{sys.executable} run.py run x.npy p0.npy p1.npy",
    ):
        done = _sh(command, built)
        assert done.returncode == 0, done.stderr
    for i, array in enumerate(want):
        for prefix in ("c", "t", "cc"):
            np.testing.assert_array_equal(np.fromfile(built / f"{prefix}{i}.bin", array.dtype), array.ravel())
        np.testing.assert_array_equal(np.load(built / f"p{i}.npy"), array)


def test_they_check_and_time(built: Path) -> None:
    for command in ("build/net check", "build/net check 3", f"{sys.executable} run.py check"):
        done = _sh(command, built)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("right")
    for command in ("build/net bench", f"{sys.executable} run.py bench"):
        assert "us a call" in _sh(command, built).stdout


def test_a_wrong_answer_is_an_exit_code(built: Path, tmp_path: Path) -> None:
    wrong = Path(shutil.copytree(built, tmp_path / "wrong"))
    assert str(built).encode() not in (wrong / "build" / "net").read_bytes(), "it can be moved"
    values = np.fromfile(wrong / "reference/output_0.bin", np.float32)
    values[7] += 0.01 * np.abs(values).max()
    values.tofile(wrong / "reference/output_0.bin")
    for command in ("build/net check", f"{sys.executable} run.py check"):
        done = _sh(command, wrong)
        assert done.returncode == 1
        assert done.stdout.strip().endswith("WRONG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run missing.bin a b", "missing.bin: cannot be opened"),
        ("run odd.bin a b", "odd.bin: not a file of 1200 bytes"),
        ("run empty.bin a b", "empty.bin: not a file of 1200 bytes"),
        ("run x.bin no/such/a b", "no/such/a: cannot be written"),
    ],
)
def test_bad_files_are_one_message(arguments: str, message: str, built: Path) -> None:
    np.zeros(1201, np.uint8).tofile(built / "odd.bin")
    np.zeros(1200, np.uint8).tofile(built / "x.bin")
    (built / "empty.bin").write_bytes(b"")
    done = _sh(f"build/net {arguments}", built)
    assert (done.returncode, done.stderr) == (2, f"{message}\n")


def test_a_missing_network_is_one_message(built: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(built, tmp_path / "kit"))
    (place / "net.so").unlink()
    done = _sh("build/net check", place)
    assert done.returncode == 2
    assert re.fullmatch(
        r".*net\.so: cannot open shared object file.*\nrun this in the folder of the kit\n", done.stderr
    )


@needs_cmake
def test_fixed_shapes_of_two_dtypes(tmp_path: Path) -> None:
    inputs = torch.randn(1, 3, 10, 10), torch.randint(0, 3, (1, 1, 10, 10), dtype=torch.int32)
    made = fc.deploy(Two().eval(), inputs, folder=tmp_path / "kit", name="two", tvm_runtime=True)
    assert "batch" not in (made.folder / "README.md").read_text()
    edges = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
    for command in (
        f'cmake -S . -B build -DCMAKE_C_FLAGS="{edges}" -DCMAKE_CXX_FLAGS="{edges}"',
        "cmake --build build",
        "ASAN_OPTIONS=detect_leaks=0 build/two check",
        "ASAN_OPTIONS=detect_leaks=0 build/two_cc reference/input_0.bin reference/input_1.bin a b",
        "cmp b reference/output_1.bin",
        f"{sys.executable} run.py check",
    ):
        done = _sh(command, made.folder)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_library_of_a_dynamic_batch_says_how(tmp_path: Path) -> None:
    x = torch.randn(3, 3, 10, 10)
    with pytest.raises(
        ModelError, match=r"since shapes are dynamic; .* deploy for TVM's runtime \(--tvm-runtime\)"
    ):
        fc.deploy(_dynamic(Net(), x), x, folder=tmp_path / "kit")
    for target, message in (
        ("x86_64-linux-musl", "TVM's runtime is made for GNU's C library, and x86_64-linux-musl has another"),
        ("aarch64-linux-android", "TVM's runtime is made for GNU's C library"),
        ("cuda", "no kit can be made for a GPU"),
    ):
        with pytest.raises(TargetError, match=message):
            fc.deploy(Net().eval(), x, folder=tmp_path / "kit", target=target, tvm_runtime=True)
    assert not list(tmp_path.iterdir())


def test_the_runtime_of_another_machine(kit: fc.Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(requirement: str, machine: str, folder: Path) -> Path:
        asked.append((requirement, machine))
        folder.mkdir()
        with zipfile.ZipFile(folder / "a.whl", "w") as archive:
            archive.writestr(LIBRARIES[requirement.split("=")[0]], requirement)
            archive.writestr("a.dist-info/licenses/LICENSE", "Apache")
        return folder / "a.whl"

    monkeypatch.setattr(kit_runtime, "_fetched_wheel", fetched)
    told: list[str] = []
    write_runtime(tmp_path, kit.manifest, "sparc", told.append)
    versions = kit.manifest.tvm_version, kit.manifest.tvm_ffi_version
    wanted = [f"apache-tvm=={versions[0]}", f"apache-tvm-ffi=={versions[1]}"]
    assert asked == [(each, "sparc") for each in wanted]
    assert (tmp_path / "runtime" / "libtvm_runtime.so").read_text() == wanted[0]
    assert (tmp_path / "runtime" / "libtvm_ffi.so").read_text() == wanted[1]
    assert (tmp_path / "include" / "tvm" / "ffi" / "c_api.h").exists()
    assert (tmp_path / "include" / "dlpack" / "dlpack.h").exists()
    assert (tmp_path / "runtime" / "apache-tvm-LICENSE").read_text() == "Apache"
    assert told == ["fetching apache-tvm for sparc", "fetching apache-tvm-ffi for sparc"]


def test_the_licences_come_along(kit: fc.Kit) -> None:
    names = sorted(path.name for path in (kit.folder / "runtime").iterdir())
    assert "apache-tvm-LICENSE" in names
    assert "apache-tvm-ffi-LICENSE" in names


def test_no_wheel_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_arguments: object, **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "ERROR: a\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", failed)
    with pytest.raises(
        ArtifactError, match="pip cannot get apache-tvm==1, TVM's runtime for sparc: ERROR: No match"
    ):
        kit_runtime._fetched_wheel("apache-tvm==1", "sparc", tmp_path)
