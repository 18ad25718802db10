"""A kit, built and run as its own README says, in a folder where nothing else is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.errors import ArtifactError, InputError, ModelError
from tvm_fastconv.train.models import make_model

from ..cuda.networks import settled

pytestmark = pytest.mark.slow

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


class Two(nn.Module):
    """Two inputs, of two dtypes; two outputs, one of them no floats; names that C has for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, int: torch.Tensor, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.relu(self.conv(int)) * which.float()
        return found, (found > 0.1).sum((2, 3))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> fc.Kit:
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 10, 10), torch.randint(0, 3, (1, 1, 10, 10), dtype=torch.int32)
    folder = tmp_path_factory.mktemp("kits") / "made" / "kit"
    return fc.deploy(Two().eval(), inputs, folder=folder, name="two")


def _sh(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def built(kit: fc.Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy somewhere else, in which both commands of its README were run."""
    place = Path(shutil.copytree(kit.folder, tmp_path_factory.mktemp("device") / "kit"))
    commands = re.search(r"```\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)
    assert commands is not None
    for command in commands[1].splitlines():
        done = _sh(command, place)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
    return place


@needs_cmake
def test_the_readme_builds_checks_and_times(built: Path) -> None:
    done = _sh("build/two check && build/two check 3 && build/two bench 2", built)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert re.fullmatch(r"largest relative error \d\.\de[-+]\d\d, allowed 1\.0e-04: right", first)
    assert second.endswith("right")
    assert re.fullmatch(r"\d+\.\d\d us a call \(median; least \d+\.\d\d\)", third)


@needs_cmake
def test_three_languages_give_the_same_bits(kit: fc.Kit, built: Path) -> None:
    inputs, _ = kit.compiled.reference()
    want = kit.compiled(*inputs)
    files = "reference/input_0.bin reference/input_1.bin"
    done = _sh(f"build/two run {files} c0.bin c1.bin && build/two_cc {files} cc0.bin cc1.bin", built)
    assert done.returncode == 0, done.stderr
    for i, array in enumerate(inputs):
        np.save(built / f"x{i}.npy", array)
    python = [sys.executable, "run.py", "run", "x0.npy", "x1.npy", "p0.npy", "p1.npy"]
    subprocess.run(python, cwd=built, check=True)
    for i, array in enumerate(want):
        for prefix in ("c", "cc"):
            np.testing.assert_array_equal(np.fromfile(built / f"{prefix}{i}.bin", array.dtype), array.ravel())
        np.testing.assert_array_equal(np.load(built / f"p{i}.npy"), array)


def test_python_checks_and_times_with_numpy_alone(kit: fc.Kit) -> None:
    """TVM and PyTorch cannot be imported."""
    code = (
        "import sys, runpy\n"
        "sys.modules.update(tvm=None, tvm_ffi=None, torch=None, tvm_fastconv=None)\n"
        "sys.argv = ['run.py', {verb!r}]\n"
        "runpy.run_path('run.py', run_name='__main__')\n"
    )
    for verb in ("check", "bench"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(verb=verb)],
            cwd=kit.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "right" in done.stdout or "us a call" in done.stdout


@needs_cmake
def test_a_wrong_answer_is_an_exit_code(built: Path, tmp_path: Path) -> None:
    wrong = Path(shutil.copytree(built, tmp_path / "wrong"))
    values = np.fromfile(wrong / "reference/output_0.bin", np.float32)
    values[7] += 0.01 * np.abs(values).max()
    values.tofile(wrong / "reference/output_0.bin")
    done = _sh("build/two check", wrong)
    assert done.returncode == 1
    assert done.stdout.strip().endswith("WRONG")
    python = subprocess.run(
        [sys.executable, "run.py", "check"], cwd=wrong, capture_output=True, text=True, check=False
    )
    assert python.returncode == 1
    assert python.stdout.strip().endswith("WRONG")


@needs_cmake
@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "fly",
        "check 0",
        "check 1025",
        "check 3x",
        "check 4294967297",
        "run reference/input_0.bin reference/input_1.bin a a",
        "run reference/input_0.bin reference/input_1.bin a reference/input_0.bin",
        "check 2 3",
        "run",
        "run reference/input_0.bin a b c",
        "run reference/input_1.bin a b c d",
    ],
)
def test_a_program_refuses_what_it_does_not_understand(built: Path, arguments: str) -> None:
    done = _sh(f"build/two {arguments}", built)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("missing.npy", "x1.npy"), "missing.npy: "),
        (("x1.npy", "x1.npy"), "x1.npy: int32 (1, 1, 10, 10); int is float32 (1, 3, 10, 10)"),
        (("README.md", "x1.npy"), "README.md: "),
    ],
)
def test_python_refuses_files_in_a_line(
    kit: fc.Kit, files: tuple[str, str], message: str, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(kit.folder, tmp_path / "kit"))
    np.save(place / "x1.npy", np.zeros((1, 1, 10, 10), np.int32))
    done = _sh(f"{sys.executable} run.py run {' '.join(files)} a.npy b.npy", place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(message)
    (place / "reference/input_0.bin").write_bytes(b"short")
    done = _sh(f"{sys.executable} run.py check", place)
    assert (done.returncode, done.stderr.startswith("reference/input_0.bin: ")) == (2, True)
    (place / "libtwo.so").unlink()
    done = _sh(f"{sys.executable} run.py check", place)
    assert (done.returncode, done.stderr.startswith("two cannot run: ")) == (2, True)


@needs_cmake
def test_another_processor_is_told(built: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(built, tmp_path / "kit"))
    text = (place / "kit_program.c").read_text()
    begin = "int call_network(long batch, char** tensors) {"
    assert begin in text
    text = "#include <signal.h>\n" + text.replace(begin, f"{begin} raise(SIGILL);")
    (place / "kit_program.c").write_text(text)
    text, call = (place / "two.hpp").read_text(), "const fastconv_status status = "
    assert call in text
    (place / "two.hpp").write_text("#include <csignal>\n" + text.replace(call, f"std::raise(SIGILL); {call}"))
    assert _sh("rm -r build && cmake -S . -B build && cmake --build build", place).returncode == 0
    inputs = "reference/input_0.bin reference/input_1.bin"
    for command in ("build/two check", f"build/two_cc {inputs} a b"):
        done = _sh(command, place)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("this is not the processor that two was compiled for, ")
    if "flags" in Path("/proc/cpuinfo").read_text():
        text = (place / "run.py").read_text()
        (place / "run.py").write_text(re.sub("NEEDS = .*?]", "NEEDS = ['avx9']", text))
        done = _sh(f"{sys.executable} run.py check", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "this is not the processor that two was compiled for: it lacks avx9\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("time", "time.h is a header of C's own"),
        ("int", "it is a word of C or C++"),
        ("m", "libm is a library of the system's"),
        ("no name", "allowed: letters, digits and _"),
        ("Makefile", "CMake calls something of its own so"),
    ],
)
def test_names_that_something_has(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"named {name!r}: {why}"):
        fc.deploy(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), folder=tmp_path / "new", name=name)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(kit: fc.Kit, tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine").write_text("mine")
    with pytest.raises(ArtifactError, match="is there already; a kit is written where nothing is"):
        fc.deploy(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), folder=tmp_path / "kit")
    with pytest.raises(InputError, match="a kit's network cannot be named 'kit_pool'"):
        fc.deploy(
            nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), folder=tmp_path / "new", name="kit_pool"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit"]


@pytest.mark.parametrize(
    ("pointer", "machine", "told", "missing"),
    [
        (8, "armv7l", "half neon vfpv4 idiva", None),
        (8, "sparc", "neon vfpv4 idiva", "two is for armv7l, and this is sparc"),
        (
            8,
            "armv7l",
            "half vfpv4",
            "this is not the processor that two was compiled for: it lacks idiva, neon",
        ),
        (4, "aarch64", "fp asimd crc32", None),  # a kernel of 64 bits, which tells other names
    ],
)
def test_what_python_asks_of_a_processor(
    pointer: int, machine: str, told: str, missing: str | None, kit: fc.Kit, tmp_path: Path
) -> None:
    text = (kit.folder / "run.py").read_text().partition('if __name__ == "__main__":')[0]
    for pattern, new in (
        ("NEEDS = .*?]", "NEEDS = ['neon', 'vfpv4', 'idiva']"),
        (r'open\("/proc/cpuinfo"', f'open("{tmp_path}/cpuinfo"'),
        (process_machine(), "armv7l"),
        (r"platform.machine\(\)", repr(machine)),
        (r'struct.calcsize\("P"\)', str(pointer)),
        ('== "flags"', '== "Features"'),
    ):
        text = re.sub(pattern, new, text)
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nFeatures : {told}\n")
    done = subprocess.run(
        [sys.executable, "-c", f"{text}\ncheck_processor()"],
        cwd=kit.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == ((2, f"{missing}\n") if missing else (0, ""))


def test_names_are_what_they_say() -> None:
    code = "from tvm_fastconv import *; Kit; from tvm_fastconv import Kit, deploy, compile; assert callable(deploy)"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_cmake
def test_whole_numbers_may_be_off_as_well(built: Path, tmp_path: Path) -> None:
    """As `CompiledModel.check` counts them: relative to the largest."""
    place = Path(shutil.copytree(built, tmp_path / "kit"))
    counts = np.fromfile(place / "reference/output_1.bin", np.int64)
    counts[0] += 1
    counts.tofile(place / "reference/output_1.bin")
    said = [
        _sh(command, place).stdout.split()[3].rstrip(",")
        for command in ("build/two check", f"{sys.executable} run.py check")
    ]
    assert said[0] == said[1] == f"{1 / counts.max():.1e}"


def test_no_example_inputs_no_kit(tmp_path: Path) -> None:
    inputs = torch.full((1, 3, 8, 8), float("nan"))
    with (
        pytest.warns(UserWarning, match="not verified"),
        pytest.raises(ModelError, match="a kit checks itself"),
    ):
        fc.deploy(nn.Conv2d(3, 4, 3).eval(), inputs, folder=tmp_path / "kit")
    assert not list(tmp_path.iterdir())


@needs_cmake
def test_the_programs_under_sanitizers(kit: fc.Kit, tmp_path: Path) -> None:
    place = Path(shutil.copytree(kit.folder, tmp_path / "kit"))
    edges = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
    done = _sh(f'cmake -S . -B build -DCMAKE_C_FLAGS="{edges}" -DCMAKE_CXX_FLAGS="{edges}"', place)
    assert done.returncode == 0, done.stderr
    inputs = "reference/input_0.bin reference/input_1.bin"
    for command in (
        "cmake --build build",
        "build/two check",
        "build/two check 4",
        "build/two bench 2",
        f"build/two run {inputs} c0.bin c1.bin 3",
        f"build/two_cc {inputs} cc0.bin cc1.bin",
        "cmp c0.bin cc0.bin && cmp c1.bin cc1.bin",
    ):
        done = _sh(command, place)
        assert done.returncode == 0, done.stdout + done.stderr


QEMU = {"aarch64": ["qemu-aarch64"], "x86_64": ["qemu-x86_64"]}


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang: the extra [cross]")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_static_program_by_zig(machine: str, tmp_path: Path) -> None:
    """A network of bits, linked with musl: small, and it runs with nothing of this system."""
    emulator = [] if machine == process_machine() else QEMU[machine]
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip(f"needs {emulator[0]}: Debian's qemu-user")
    torch.manual_seed(4)  # no value lies at a threshold of bits
    images = torch.randn(8, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS["bitserial"])
    place = tmp_path / "kit"
    made = fc.deploy(
        settled(model, images),
        images[:1],
        folder=place,
        name="bits",
        target=f"{machine}-linux-musl",
    )
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl", "-O2", "-static", "-s"]
    subprocess.run(
        [*zig, "main.c", "kit_program.c", "kit_pool.c", "libbits.a", "-o", "bits"], cwd=place, check=True
    )
    assert (place / "bits").stat().st_size <= 200_000
    for arguments in (["check"], ["check", "3"]):
        done = subprocess.run(
            [*emulator, "./bits", *arguments], cwd=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert made.manifest.verify.startswith("verified")
    assert "allows a relative error of 0.0001, twice what it was off by" in (place / "README.md").read_text()
