"""nvcc is found, asked and understood; it is a stand-in here."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvm_fastconv.artifact import cuda_compiler
from tvm_fastconv.artifact.cuda_compiler import Nvcc, compile_cuda, find_cuda_compiler
from tvm_fastconv.artifact.machine_code import KernelResources
from tvm_fastconv.artifact.nvrtc import Nvrtc, find_nvrtc
from tvm_fastconv.errors import TargetError


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVCC", "/nowhere/nvcc")
    with pytest.raises(
        TargetError,
        match=r"no CUDA compiler found at /nowhere/nvcc \(NVCC\): pip install tvm-fastconv\[cuda\]",
    ):
        compile_cuda("", (90,))


def test_with_neither_compiler_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_compiler, "find_nvcc", lambda: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(
        TargetError,
        match=r"nvcc: none; NVRTC: .*\): pip install tvm-fastconv\[cuda\] for nvcc or .*\[nvrtc\]",
    ):
        compile_cuda("", (90,))


def test_an_old_nvrtc_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(nvrtcVersion=lambda: (0, 12, 9), version=lambda: (12, 9))
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", old)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvfatbin", old)
    assert find_nvrtc() == "version 12.9, and 13.2 is the oldest that is taken"


def test_nvcc_is_taken_before_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    nvrtc = Nvrtc(None, None)
    monkeypatch.setattr(cuda_compiler, "find_nvrtc", lambda: nvrtc)
    monkeypatch.setattr(cuda_compiler, "find_nvcc", lambda: None)
    assert find_cuda_compiler() is nvrtc
    monkeypatch.setattr(cuda_compiler, "find_nvcc", lambda: "/somewhere/nvcc")
    assert isinstance(find_cuda_compiler(), Nvcc)


def test_what_the_compiler_refuses_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "nvcc"
    refusing.write_text("#!/bin/sh\necho kernels.cu: error: this is no C++ >&2; exit 2\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("NVCC", str(refusing))
    with pytest.raises(TargetError, match=r"nvcc failed: .*\n.*error: this is no C\+\+"):
        compile_cuda("what", (90,))


def test_the_compiler_is_asked_for_every_architecture_and_for_ptx(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writing = tmp_path / "nvcc"
    writing.write_text(
        '#!/bin/sh\nfor last in "$@"; do :; done; printf "\\120\\355\\125\\272" > "$last"; echo "$@" >> "$last"\n'
    )
    writing.chmod(0o755)
    monkeypatch.setenv("NVCC", str(writing))
    asked = compile_cuda("", (75, 90)).fatbin[4:].decode().split()
    assert [word for word in asked if word.startswith("-gencode")] == [
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]


def test_the_compiler_of_the_python_packages_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged = tmp_path / "nvcc"
    packaged.write_text("#!/bin/sh\n")
    packaged.chmod(0o755)
    monkeypatch.delenv("NVCC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(cuda_compiler, "_in_packages", lambda: [str(packaged)])
    assert cuda_compiler.find_nvcc() == str(packaged)


@pytest.mark.parametrize(
    "body", ["exit 0", 'for last in "$@"; do :; done; echo garbage > "$last"', "kill -9 $$"]
)
def test_a_compiler_that_makes_no_machine_code_is_an_error(
    body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "nvcc"
    broken.write_text(f"#!/bin/sh\n{body}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("NVCC", str(broken))
    with pytest.raises(TargetError, match="nvcc failed: "):
        compile_cuda("", (90,))


REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'b' for 'sm_75'
ptxas info    : Function properties for b
    344 bytes stack frame, 340 bytes spill stores, 336 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers, 344 bytes cumulative stack size, 360 bytes cmem[0]
ptxas info    : Compile time = 92.698 ms
ptxas info    : Function properties for called
    0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas info    : Function properties for a
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 2.283 ms
"""


def test_what_each_kernel_takes_is_read_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "report").write_text(REPORT)
    telling = tmp_path / "nvcc"
    telling.write_text(
        f'#!/bin/sh\nfor last in "$@"; do :; done; printf "\\120\\355\\125\\272" > "$last"; cat {tmp_path}/report >&2\n'
    )
    telling.chmod(0o755)
    monkeypatch.setenv("NVCC", str(telling))
    assert compile_cuda("", (75, 90)).kernels == (
        KernelResources("b", 75, registers=64, shared_bytes=0, stack=344, spill_stores=348, spill_loads=340),
        KernelResources("a", 90, registers=10, shared_bytes=128, stack=0, spill_stores=0, spill_loads=0),
    )
