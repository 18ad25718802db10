"""Networks as C libraries: compiled into programs with a C compiler alone, and run there."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv import demo
from tvm_fastconv.artifact.c_names import members
from tvm_fastconv.artifact.c_source import CSource, backend_prefix
from tvm_fastconv.errors import ArtifactError, FastconvError, InputError, ModelError
from tvm_fastconv.relay_passes.module import plan_memory, straight_line
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.train.models import make_model
from tvm_fastconv.verify.c_library_call import call_c_library

from ..cuda.networks import settled

HERE = Path(__file__).parent
CC = ["cc", "-std=c11", "-O1", "-g", "-pthread"]
NETWORKS = ("dense", "binary", "lookup", "separable")
DEMO = tuple(demo.NETWORKS)
EDGES = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

pytestmark = pytest.mark.slow


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    middle: dict[str, list[nn.Module]] = {
        "dense": [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        "binary": [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)],
        "lookup": [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()],
        "separable": [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 32, 1), nn.ReLU()],
    }
    return nn.Sequential(*first, *middle[name], *last)


METHODS: dict[str, dict[str, fc.configs.Method]] = {
    "binary": {"3": fc.Bitserial()},
    "lookup": {"3": fc.Lookup(dictionary_size=8, density=0.2)},
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimpleNamespace]:
    """The four networks as libraries of one folder, each with an input and what our own loader answers."""
    folder, made = tmp_path_factory.mktemp("libraries"), {}
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    (folder / "x.bin").write_bytes(images.numpy().tobytes())
    for name in NETWORKS:
        model = settled(_network(name), images.repeat(4, 1, 1, 1))
        library = fc.compile_c_library(
            model, images, folder=folder, name=name, methods=METHODS.get(name), target="x86_64-linux-gnu"
            if os.uname().machine == "x86_64" else "native", verify=False,
        )  # fmt: skip
        library.compiled.save(folder / f"{name}.so")
        made[name] = SimpleNamespace(
            folder=folder, library=library, images=images, answer=library.compiled(images)
        )
    return made


def _program(case: SimpleNamespace, name: str, *flags: str, shared: bool = False) -> Path:
    """Compile `c_program.c` for a library of ``case.folder``."""
    program = case.folder / f"run_{name}{len(flags)}{shared}"
    link = [f"-l{name}", f"-Wl,-rpath,{case.folder}"] if shared else [str(case.folder / f"lib{name}.a")]
    named = [f"-DNAME={name}", f"-DUPPER={name.upper()}", "-include", f"{name}.h"]
    weights = [] if any(flag.startswith("-DWEIGHTS=") for flag in flags) else ["-DWEIGHTS="]
    command = [
        *CC,
        *named,
        *weights,
        *flags,
        f"-I{case.folder}",
        str(HERE / "c_program.c"),
        "-o",
        str(program),
    ]
    subprocess.run([*command, f"-L{case.folder}", *link, "-lm"], check=True)
    return program


def _run(program: Path, case: SimpleNamespace, *arguments: int) -> tuple[np.ndarray, int]:
    """What a program answers, and how many tasks its pool ran."""
    y = case.folder / f"{program.name}.bin"
    command = [str(program), str(case.folder / "x.bin"), str(y), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(y.read_bytes(), np.float32).reshape(case.answer.shape), int(done.stdout)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shared", [False, True], ids=["static", "shared"])
def test_a_program_answers_as_our_loader_does(
    libraries: dict[str, SimpleNamespace], name: str, shared: bool
) -> None:
    case = libraries[name]
    program = _program(case, name, shared=shared)
    answer = case.answer.numpy()
    alone, tasks = _run(program, case)
    np.testing.assert_array_equal(alone, answer)
    assert tasks == 0
    for threads in (1, 2, 5):
        pooled, tasks = _run(program, case, threads)
        np.testing.assert_array_equal(pooled, answer)
        assert (tasks > 0) == (threads > 1)
    np.testing.assert_array_equal(_run(program, case, 3, 4)[0], answer)


@pytest.mark.parametrize("name", NETWORKS)
def test_three_faces_give_the_same_bits(libraries: dict[str, SimpleNamespace], name: str) -> None:
    _assert_same_bits(libraries[name], name)


def _assert_same_bits(case: SimpleNamespace, name: str) -> None:
    path, images = case.folder / f"{name}.so", case.images.numpy()
    call = fc.load(path).bind(images)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    plain = machine["main"](tvm.runtime.tensor(images)).numpy()
    np.testing.assert_array_equal(call(), case.answer.numpy())
    np.testing.assert_array_equal(plain, case.answer.numpy())


@pytest.mark.parametrize("name", DEMO)
def test_the_networks_of_the_demo(name: str, tmp_path: Path) -> None:
    """As they are before training: four threads of a program, our loader, a bound call and plain TVM, to the bit."""
    torch.manual_seed(0)
    images = torch.randn(1, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **demo.NETWORKS[name])
    made = fc.compile_c_library(
        settled(model, images.repeat(8, 1, 1, 1)), images, folder=tmp_path, name="demo"
    )
    made.compiled.save(tmp_path / "demo.so")
    (tmp_path / "x.bin").write_bytes(images.numpy().tobytes())
    case = SimpleNamespace(folder=tmp_path, images=images, answer=made.compiled(images))
    _assert_same_bits(case, "demo")
    for arguments in ((), (3, 4)):
        np.testing.assert_array_equal(_run(_program(case, "demo"), case, *arguments)[0], case.answer.numpy())


@pytest.mark.parametrize("name", NETWORKS)
def test_under_sanitizers(libraries: dict[str, SimpleNamespace], name: str) -> None:
    case = libraries[name]
    program = _program(case, name, *EDGES)
    np.testing.assert_array_equal(_run(program, case, 3, 2)[0], case.answer.numpy())


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_under_valgrind(libraries: dict[str, SimpleNamespace]) -> None:
    case = libraries["dense"]
    program = _program(case, "dense")
    command = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", str(program)]
    y = case.folder / "valgrind.bin"
    done = subprocess.run(
        [*command, str(case.folder / "x.bin"), str(y), "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.frombuffer(y.read_bytes(), np.float32), case.answer.numpy().ravel())


def test_several_networks_in_one_program(libraries: dict[str, SimpleNamespace], tmp_path: Path) -> None:
    """Of one static program, every network answers as it does alone, while the others are running."""
    folder = libraries["dense"].folder
    calls, headers = "", ""
    for name in NETWORKS:
        upper = name.upper()
        headers += f'#include "{name}.h"\n'
        calls += (
            f"static void* {name}(void* unused) {{\n"
            f"  static _Alignas(64) float y[{upper}_OUTPUT_0_BYTES / 4];\n"
            f"  size_t bytes = {name}_workspace_bytes(0);\n"
            "  char* workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);\n"
            f"  {name}_inputs inputs = {{x}};\n  {name}_outputs outputs = {{y}};\n"
            "  for (int i = 0; i < 20; i++)\n"
            f"    if ({name}_run(&inputs, &outputs, workspace, bytes, 0)) exit(1);\n"
            f'  FILE* file = fopen("{tmp_path}/{name}.bin", "wb");\n'
            "  fwrite(y, sizeof y, 1, file);\n  fclose(file);\n  free(workspace);\n  return 0;\n}\n"
        )
    begun = "".join(f"  pthread_create(&threads[{i}], 0, {name}, 0);\n" for i, name in enumerate(NETWORKS))
    source = tmp_path / "all.c"
    source.write_text(
        "#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
        f"{headers}static _Alignas(64) float x[DENSE_INPUT_0_BYTES / 4];\n{calls}"
        "int main(int count, char** arguments) {\n"
        '  FILE* file = fopen(arguments[1], "rb");\n  if (fread(x, sizeof x, 1, file) != 1) return 2;\n'
        f"  fclose(file);\n  pthread_t threads[{len(NETWORKS)}];\n{begun}"
        f"  for (int i = 0; i < {len(NETWORKS)}; i++) pthread_join(threads[i], 0);\n  return 0;\n}}\n"
    )
    archives = [str(folder / f"lib{name}.a") for name in NETWORKS]
    subprocess.run(
        [*CC, f"-I{folder}", str(source), "-o", str(tmp_path / "all"), *archives, "-lm"], check=True
    )
    subprocess.run([str(tmp_path / "all"), str(folder / "x.bin")], check=True, timeout=300)
    for name in NETWORKS:
        got = np.frombuffer((tmp_path / f"{name}.bin").read_bytes(), np.float32)
        np.testing.assert_array_equal(got, libraries[name].answer.numpy().ravel())


def test_wrong_calls_write_nothing(libraries: dict[str, SimpleNamespace], tmp_path: Path) -> None:
    case = libraries["dense"]
    made = fc.compile_c_library(
        settled(_network("dense"), case.images), case.images, folder=tmp_path, name="net", verify=False
    )
    assert [file.name for file in made.files] == ["net.h", "libnet.a", "libnet.so"]
    program = tmp_path / "errors"
    command = [
        *CC,
        f"-I{tmp_path}",
        str(HERE / "c_errors.c"),
        str(tmp_path / "libnet.a"),
        "-lm",
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    null, crooked, small, failed = 1, 2, 3, 4
    assert said == [
        f"no-inputs {null} untouched",
        f"no-outputs {null} untouched",
        f"null-input {null} untouched",
        f"null-output {null} untouched",
        f"null-workspace {null} untouched",
        f"crooked-input {crooked} untouched",
        f"crooked-output {crooked} untouched",
        f"crooked-workspace {crooked} untouched",
        f"small-workspace {small} untouched",
        f"small-for-pool {small} untouched",
        f"pool-without-run {null} untouched",
        f"pool-without-threads {null} untouched",
        f"failing-pool {failed}",
        "right 0",
    ]


def _symbols(path: Path, *options: str) -> list[list[str]]:
    listed = subprocess.run(["nm", *options, str(path)], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in listed.splitlines() if line and not line.endswith(":")]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_library_needs_and_shows_next_to_nothing(libraries: dict[str, SimpleNamespace], name: str) -> None:
    folder = libraries[name].folder
    shown = {line[-1] for line in _symbols(folder / f"lib{name}.so", "-D", "--defined-only")}
    assert shown == {f"{name}_run", f"{name}_workspace_bytes"}
    needed = {line[-1].split("@")[0] for line in _symbols(folder / f"lib{name}.so", "-D", "--undefined-only")}
    usual = {"memcpy", "memset", "__tls_get_addr", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
    mathematics = {
        "exp",
        "expf",
        "log",
        "logf",
        "tanhf",
        "powf",
        "sqrtf",
        "floorf",
        "roundf",
        "__cxa_finalize",
    }
    assert needed <= usual | mathematics | {"__gmon_start__"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_library_holds_no_state(libraries: dict[str, SimpleNamespace], name: str) -> None:
    """Writable is nothing but what a thread knows of its own call, and pointers that are set before it runs."""
    archive = libraries[name].folder / f"lib{name}.a"
    hooks = {
        f"{backend_prefix(name)}{what}" for what in ("ParallelLaunch", "AllocWorkspace", "FreeWorkspace")
    }
    writable = {line[-1] for line in _symbols(archive, "--defined-only") if line[-2] in "BbDdCcSsGgVv"}
    assert writable <= {"threads", "further", "scratch"} | hooks


def test_the_header_is_c_and_cplusplus(libraries: dict[str, SimpleNamespace], tmp_path: Path) -> None:
    folder = libraries["dense"].folder
    text = "".join(f'#include "{name}.h"\n' * 2 for name in NETWORKS)
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{folder}"]
    for suffix, language in (("c", "-std=c99"), ("cc", "-std=c++11")):
        (tmp_path / f"include.{suffix}").write_text(text)
        subprocess.run(
            ["g++" if suffix == "cc" else "cc", language, *strict, str(tmp_path / f"include.{suffix}")],
            check=True,
        )
    header = (folder / "dense.h").read_text()
    assert "#define DENSE_INPUT_0_SHAPE {1, 3, 16, 16}\n" in header
    assert "#define DENSE_OUTPUT_0_BYTES 40\n" in header


def test_weights_in_a_file_of_their_own(libraries: dict[str, SimpleNamespace], tmp_path: Path) -> None:
    case = libraries["dense"]
    model = settled(_network("dense"), case.images.repeat(4, 1, 1, 1))
    made = fc.compile_c_library(
        model, case.images, folder=tmp_path, name="apart", separate_weights=True, verify=False,
        target="x86_64-linux-gnu" if os.uname().machine == "x86_64" else "native",
    )  # fmt: skip
    weights = tmp_path / "apart.weights"
    assert made.files[-1] == weights
    assert weights.stat().st_size >= made.manifest.weight_bytes
    shutil.copy(case.folder / "x.bin", tmp_path)
    apart = SimpleNamespace(folder=tmp_path, answer=case.answer)
    flags = ["-DWEIGHTS=weights,", f'-DWEIGHTS_FILE="{weights}"', "-DWEIGHTS_BYTES=APART_WEIGHTS_BYTES"]
    np.testing.assert_array_equal(_run(_program(apart, "apart", *flags), apart, 2)[0], case.answer.numpy())
    with weights.open("r+b") as file:
        file.write(b"of another network")
    specs = list(made.manifest.outputs)
    with pytest.raises(FastconvError, match="apart_run returns 5"):  # FASTCONV_OTHER_WEIGHTS
        call_c_library(tmp_path / "libapart.so", "apart", [case.images.numpy()], specs, weights)


@pytest.mark.parametrize("name", ["", "2d", "a-b", "int", "class", "main", "über", "../x", "math", "pthread"])
def test_names_that_c_does_not_know_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"a C library cannot be named {name!r}")):
        fc.compile_c_library(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), folder=tmp_path, name=name)
    assert not list(tmp_path.iterdir())


def test_a_dynamic_batch_has_no_c_library(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        nn.Conv2d(3, 4, 3).eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=[{0: batch}]
    )
    steps: list[str] = []
    with pytest.raises(ModelError, match="needs TVM's virtual machine, since shapes are dynamic"):
        fc.compile_c_library(program, folder=tmp_path / "made", verify=False, progress=steps.append)
    assert "generating code" not in steps
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "has no name"),
        ("a\0b", "null byte"),
        ("file/lib", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_is_told_before_the_work(
    folder: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    steps: list[str] = []
    with pytest.raises(ArtifactError, match=message):
        fc.compile_c_library(
            nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), folder=folder, progress=steps.append
        )
    assert not steps
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_kernels_with_buffers_of_their_own_are_among_those_tested(
    libraries: dict[str, SimpleNamespace],
) -> None:
    """Else nothing would take any, on this thread or another."""
    library = ctypes.CDLL(str(libraries["dense"].folder / "libdense.so"))
    size = library.dense_workspace_bytes
    size.restype = ctypes.c_size_t
    pool = (ctypes.c_void_p * 3)(0, 0, 3)  # run, context, threads
    assert size(pool) > size(None)
    assert (size(pool) - size(None)) % 2 == 0


@pytest.mark.parametrize("cpu", ["cortex-a76", "neoverse-v1"])
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang: the extra [cross]")
def test_instructions_of_one_kind_of_processor(cpu: str, tmp_path: Path) -> None:
    """Dot products and scalable vectors, which an assembler would have to be told of."""
    images = torch.randn(1, 3, 16, 16)
    model = settled(_network("binary"), images.repeat(4, 1, 1, 1))
    made = fc.compile_c_library(
        model, images, folder=tmp_path, methods=METHODS["binary"], target=f"aarch64-linux-musl -mcpu={cpu}"
    )
    assert all(file.exists() for file in made.files)


def test_a_library_is_replaced_as_a_whole(tmp_path: Path) -> None:
    model, images = nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8)
    (tmp_path / "libnet.so").mkdir()
    with pytest.raises(ArtifactError, match=r"libnet\.so is a folder and is not replaced"):
        fc.compile_c_library(model, images, folder=tmp_path, name="net", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["libnet.so"]
    (tmp_path / "libnet.so").rmdir()
    fc.compile_c_library(model, images, folder=tmp_path, name="net", separate_weights=True, verify=False)
    assert (tmp_path / "net.weights").exists()
    fc.compile_c_library(model, images, folder=tmp_path, name="net", verify=False)
    assert not (tmp_path / "net.weights").exists()


def test_buffers_of_kernels_where_tensors_lie_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file for TVM's runtime has no such buffers, and is right."""

    def on_tensors(lives: list[plan_memory.Life]) -> tuple[list[int], int]:
        offsets, total = plan_memory.plan_memory(lives)
        alone = [life.first == life.last and life.size > 10_000 for life in lives]
        return [0 if own else offset for own, offset in zip(alone, offsets, strict=True)], total

    monkeypatch.setattr(straight_line, "plan_memory", on_tensors)
    images = torch.randn(1, 3, 16, 16)
    model = settled(_network("dense"), images.repeat(4, 1, 1, 1))
    target = "x86_64-linux-gnu" if os.uname().machine == "x86_64" else "native"
    with pytest.raises(FastconvError, match="the C library is wrong: it computes another output"):
        fc.compile_c_library(model, images, folder=tmp_path, target=target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ['a"; evil', 'a??/"; evil', "a\\", "a\n#error", "größe", "*/"])
def test_names_of_tensors_stay_names(name: str, tmp_path: Path) -> None:
    """They come from files; a trigraph is a backslash to some compilers."""
    spec = TensorSpec(name=name, shape=(2,), dtype="float32")
    (tmp_path / "net.h").write_text(CSource("net", [spec], [spec]).header("1", "here"))
    (tmp_path / "say.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) { fputs(NET_INPUT_0_NAME, stdout); return 0; }\n'
    )
    for standard in ("-std=c99", "-std=gnu17"):
        command = ["cc", standard, "-Wall", "-Werror", "say.c", "-o", "say"]
        subprocess.run(command, cwd=tmp_path, check=True)
        said = subprocess.run(["./say"], cwd=tmp_path, capture_output=True, check=True).stdout
        assert said == name.encode()


MACROS = [
    "_Bool",
    "_Atomic",
    "EOF",
    "NULL",
    "linux",
    "unix",
    "errno",
    "stdin",
    "I",
    "assert",
    "INT8_MAX",
    "NAN",
    "complex",
    "x",
    "X",
    "X0",
]


def test_members_are_no_macros(tmp_path: Path) -> None:
    """Of whatever header a program reads before."""
    specs = [TensorSpec(name=name, shape=(2,), dtype="float32") for name in MACROS]
    (tmp_path / "net.h").write_text(CSource("net", specs, specs).header("1", "here"))
    headers = "assert complex errno inttypes limits math stdio stdlib threads time".split()  # noqa: SIM905
    before = "".join(f"#include <{header}.h>\n" for header in headers)
    (tmp_path / "use.c").write_text(f'{before}#include "net.h"\nint main(void) {{ return 0; }}\n')
    subprocess.run(["cc", "-std=gnu11", "-Werror", "use.c", "-o", "use"], cwd=tmp_path, check=True)
    assert members(specs)[-3:] == ["x", "X", "X0"]
