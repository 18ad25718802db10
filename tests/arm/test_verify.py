"""Compiling for another machine: verified in an emulator where there is one."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv import deployment
from tvm_fastconv.artifact.c_compiler import CCompiler
from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.errors import FastconvError, TargetError
from tvm_fastconv.verify import emulated

pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(process_machine() == "aarch64", reason="there is nothing to emulate here"),
]

UNSEEN = "not verified: this machine is none of aarch64"


def _compiled(target: str = "cortex-a53", **how: Any) -> fc.CompiledModel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    return fc.compile(model, torch.randn(1, 3, 10, 10), target=target, **how)


@pytest.mark.parametrize("target", ["cortex-a53", "aarch64-linux-gnu", "aarch64-linux-musl", "neoverse-v1"])
def test_it_is_verified(target: str) -> None:
    made = _compiled(target)
    assert made.manifest.verify.startswith("verified in qemu-aarch64 against PyTorch from equal inputs: all ")
    assert made.verified_error is not None
    assert made.verified_error < 1e-5
    assert all(layer.error is not None and layer.error < 2e-5 for layer in made.layers)


def test_several_inputs_outputs_and_dtypes() -> None:
    class Two(nn.Module):
        def forward(
            self, x: torch.Tensor, y: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            found = torch.relu(x) * y.float()
            return found, (found > 0.1).sum((2, 3)), found.amax()

    inputs = torch.randn(1, 3, 6, 6), torch.randint(0, 3, (1, 1, 6, 6), dtype=torch.int32)
    made = fc.compile(Two(), inputs, target="cortex-a53")
    assert made.manifest.verify.startswith("verified in qemu-aarch64")
    assert made.verified_error == 0


def _changed(how: Callable[[Path], None]) -> Callable[..., Path]:
    link = emulated.link_traced_program

    def changed(*arguments: Any) -> Path:
        how(arguments[-2])
        return link(*arguments)

    return changed


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_weight(folder: Path) -> None:
        data = bytearray((folder / "weights.bin").read_bytes())
        data[:4] = b"\0\0\x80\x41"  # 16
        (folder / "weights.bin").write_bytes(data)

    monkeypatch.setattr(emulated, "link_traced_program", _changed(one_weight))
    with pytest.raises(FastconvError, match=r"the compiled model is wrong in 0: off by .* This is a bug"):
        _compiled()


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the emulator end with an exit code."""
    run = subprocess.run

    def end_with(code: int) -> None:
        def ended(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
            if "qemu" not in command[0]:
                return run(command, **how)
            return subprocess.CompletedProcess(command, code, "", "a line\nof its own\n")

        monkeypatch.setattr(emulated.subprocess, "run", ended)

    return end_with


@pytest.mark.parametrize("code", [-signal.SIGSEGV, -signal.SIGABRT, 4])
def test_what_crashes_is_a_bug(code: int, ending: Callable[[int], None]) -> None:
    ending(code)
    with pytest.raises(
        FastconvError, match=f"qemu-aarch64 ends with exit code {code}: of its own. This is a bug"
    ):
        _compiled()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGILL, "lacks an instruction of its code"),
        (-signal.SIGKILL, "ends with exit code -9: of its own"),
        (3, "ends with exit code 3: of its own"),
    ],
)
def test_an_emulator_that_cannot_says_nothing_of_the_model(
    code: int, said: str, ending: Callable[[int], None]
) -> None:
    ending(code)
    made = _compiled()
    assert made.manifest.verify == f"{UNSEEN}, and qemu-aarch64 {said}"
    assert made.verified_error is None


def test_no_static_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "find_program_compiler", lambda *_triple: CCompiler(("false",)))
    assert _compiled().manifest.verify.startswith(f"{UNSEEN}, and the C compiler failed: false")

    def none(*_triple: object) -> CCompiler:
        raise TargetError("there is none")

    monkeypatch.setattr(emulated, "find_program_compiler", none)
    assert _compiled().manifest.verify == f"{UNSEEN}, and there is none"


def test_a_dynamic_batch_needs_the_virtual_machine() -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    x = torch.zeros(2, 3, 8, 8)
    program = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (x,), dynamic_shapes=[{0: batch}])
    made = fc.compile(program, x, target="cortex-a53")
    assert made.manifest.verify == f"{UNSEEN}, and shapes are dynamic"


def test_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(emulated.shutil, "which", lambda name: None if "qemu" in name else which(name))
    assert _compiled().manifest.verify == UNSEEN


def test_of_32_bits_there_are_c_libraries(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="TVM has no runtime for armv7l-linux-gnueabihf: make a C library"):
        _compiled("armv7l-linux-gnueabihf")
    torch.manual_seed(0)
    model, x = nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 10, 10)
    for how in ({"tvm_runtime": True}, {}):
        with pytest.raises(TargetError, match="TVM has no runtime") if how else contextlib.nullcontext():
            kit = fc.deploy(model, x, folder=tmp_path / "kit", target="cortex-a7", **how)
    assert kit.manifest.target == "armv7l-linux-gnueabihf -mcpu=cortex-a7 -num-cores=4"
    assert kit.manifest.verify.startswith("verified in qemu-arm against PyTorch")
    with pytest.raises(TargetError, match="TVM has no runtime"):
        fc.export_batch(model, x, folder=tmp_path / "batch", records=tmp_path / "r.jsonl", target="cortex-a7")


def test_a_kits_library_is_checked_in_the_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 10, 10)
    write = deployment.write_reference

    def other(folder: Path, inputs: Any, outputs: Any) -> None:
        write(folder, inputs, [output + 1 for output in outputs])

    monkeypatch.setattr(deployment, "write_reference", other)
    with pytest.raises(FastconvError, match=r"the kit's library is wrong: in qemu-aarch64, .*WRONG"):
        fc.deploy(model, x, folder=tmp_path / "kit", target="cortex-a53")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("moved", "tolerance"), [(1e-5, "0.001"), (0.003, "0.006"), (0.8, "0.1")])
def test_without_an_emulator_a_check_allows_what_rounding_moves(
    moved: float, tolerance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(emulated.shutil, "which", lambda name: None if "qemu" in name else which(name))
    monkeypatch.setattr(deployment, "moved_by_roundings", lambda source, examples: moved)
    model, x = nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 10, 10)
    made = fc.deploy(model, x, folder=tmp_path / "kit", target="cortex-a53")
    assert made.manifest.verify == UNSEEN
    text = (tmp_path / "kit" / "README.md").read_text()
    assert (
        f"allows a relative error of {tolerance}, twice what rounding, which differs between machines" in text
    )
