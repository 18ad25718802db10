"""Code for another machine, run by an emulator where there is one: its kernels' results, for the same comparison.

The very object file that goes into the compiled model is linked into a static program (`traced_program`).
"""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tvm

from tvm_fastconv.architectures import ARCHITECTURES
from tvm_fastconv.artifact.build import KERNEL_PREFIX, KERNELS_FILE
from tvm_fastconv.artifact.c_compiler import find_program_compiler
from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.artifact.kernels import entry_of
from tvm_fastconv.artifact.manifest import Manifest
from tvm_fastconv.artifact.traced_program import KERNEL_FAILED, link_traced_program
from tvm_fastconv.errors import FastconvError, TargetError
from tvm_fastconv.gpu_targets import is_cuda
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.collect_layers import RecordedCall
from tvm_fastconv.relay_passes.module.straight_line import StraightLine
from tvm_fastconv.targets import architecture, triple_of
from tvm_fastconv.temporary import temporary_folder

from .trace import Arrays, Trace, by_place

CPU = "max"
"""Which of the processors that the emulator knows: one with all that it can execute."""

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE)
"""What ends a program that does something wrong."""

SECONDS = 600
"""After which a run counts as hanging; ResNet-18 takes 3."""


def emulator_for(target: tvm.target.Target) -> str | None:
    """The command that runs programs for ``target``'s other architecture, if it is installed: QEMU's user mode."""
    if is_cuda(target) or architecture(target) == process_machine():
        return None
    row = ARCHITECTURES[architecture(target)]
    name = f"qemu-{row.toolchain or row.name}"
    return shutil.which(name) or shutil.which(f"{name}-static")


def check_kit(kit: Path, name: str, target: tvm.target.Target, cc: str | None) -> None:
    """Have a kit's C program, on three threads, check the library that it holds, if an emulator can.

    Raises
    ------
    FastconvError
        The library computes something else than its reference.
    """
    if (emulator := emulator_for(target)) is None:
        return
    with temporary_folder() as folder:
        try:
            compiler = find_program_compiler(triple_of(target), cc)
            sources = ("main", "kit_program", "kit_pool")
            for source in sources:
                compiler.compile(folder, str(kit / f"{source}.c"), f"{source}.o")
            objects = [*(f"{source}.o" for source in sources), str(kit / f"lib{name}.a")]
            compiler.link_program(folder, objects, "program")
        except TargetError:
            return
        command = [emulator, "-cpu", CPU, str(folder / "program"), "check", "3"]
        done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
    if done.returncode == 1 or -done.returncode in CRASHES:
        raise FastconvError(
            f"the kit's library is wrong: in {Path(emulator).name}, its check ends with exit code {done.returncode}: "
            f"{(done.stdout + done.stderr).strip()}. This is a bug in tvm-fastconv"
        )


class EmulatorError(RuntimeError):
    """The emulator cannot say anything of the code; the message says why."""


class Emulated:
    """A compiled model in an emulator.

    Parameters
    ----------
    scheduled, target
        What was compiled, and for what.
    manifest
        Of the file that it became.
    folder
        Holds its kernels and weights, as ``build_artifact`` keeps them; the program is linked there.
    calls
        What the entry function calls, in order.
    emulator
        As `emulator_for` returns it.
    cc
        The C compiler's command, where the user has named one.

    Raises
    ------
    EmulatorError
        No program can be made.
    """

    def __init__(
        self,
        scheduled: tvm.IRModule,
        target: tvm.target.Target,
        manifest: Manifest,
        folder: Path,
        calls: Sequence[RecordedCall],
        emulator: str,
        cc: str | None,
    ) -> None:
        self.name = Path(emulator).name
        self._command, self._manifest, self._calls = [emulator, "-cpu", CPU], manifest, calls
        if manifest.virtual_machine:
            raise EmulatorError(manifest.virtual_machine)
        mod = tvm.transform.Sequential(pipeline.plan_weights())(scheduled)
        with target:
            line = entry_of(mod, target)
        assert isinstance(line, StraightLine), "the manifest says so"
        written = [(call.function, mod[call.function].params[-1]) for call in line.calls]
        self._results = [
            (function, tuple(map(int, buffer.shape)), np.dtype(str(buffer.dtype)))
            for function, buffer in written
        ]
        try:
            self._program = link_traced_program(
                line, manifest.weights, KERNELS_FILE, KERNEL_PREFIX, (manifest.inputs, manifest.outputs),
                [int(np.prod(shape)) * dtype.itemsize for _, shape, dtype in self._results],
                folder, find_program_compiler(triple_of(target), cc),
            )  # fmt: skip
        except TargetError as error:
            first, *others = str(error).splitlines()
            why = next((line for line in others if "error" in line), "")
            raise EmulatorError(f"{first}: {why}" if why else first) from None

    def __call__(self, inputs: Arrays) -> Trace:
        """Run it once.

        Raises
        ------
        EmulatorError
            The emulator lacks an instruction.
        FastconvError
            The code crashes.
        """
        with temporary_folder() as folder:
            count = len(inputs), len(self._manifest.outputs)
            paths = [folder / str(i) for i in range(sum(count) + 1)]
            for path, array in zip(paths, inputs, strict=False):
                np.ascontiguousarray(array).tofile(path)
            self._run([*self._command, str(self._program), *map(str, paths)])
            outputs = tuple(
                np.fromfile(path, spec.dtype).reshape(tuple(map(int, spec.shape)))
                for path, spec in zip(paths[count[0] : -1], self._manifest.outputs, strict=True)
            )
            with paths[-1].open("rb") as file:
                made = [
                    (function, np.fromfile(file, dtype, int(np.prod(shape))).reshape(shape))
                    for function, shape, dtype in self._results
                ]
        return Trace(by_place(made, self._calls), outputs, outputs)

    def _run(self, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise EmulatorError(f"{self.name} takes longer than {SECONDS} s") from None
        if not done.returncode:
            return
        if -done.returncode == signal.SIGILL:
            raise EmulatorError(f"{self.name} lacks an instruction of its code")
        said = f": {done.stderr.strip().splitlines()[-1]}" if done.stderr.strip() else ""
        how = f"{self.name} ends with exit code {done.returncode}{said}"
        if -done.returncode in CRASHES or done.returncode == KERNEL_FAILED:
            raise FastconvError(f"the compiled model is wrong: {how}. This is a bug in tvm-fastconv")
        raise EmulatorError(how)  # of itself, or for want of memory
