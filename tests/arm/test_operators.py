"""Every operator on ARM's CPUs: what a batch of tuning takes to a device without Python, executed by an emulator."""

import subprocess
from pathlib import Path

import pytest

from tvm_fastconv.autotune.batch_files import RESULTS, read_results
from tvm_fastconv.autotune.batch_program import PROGRAM
from tvm_fastconv.autotune.candidate import Candidate, Device, Group, Task
from tvm_fastconv.autotune.measure_batch import MEASURED
from tvm_fastconv.autotune.write_batch import write_batch
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.targets import spec_of
from tvm_fastconv.topi.operators import operator_of

from ..topi.operator_cases import ON_CPUS, random_knobs
from .emulator import CPUS, emulators, target_of

pytestmark = [pytest.mark.arm, pytest.mark.slow]


def _asked(device: Device) -> list[Group]:
    """The default of every case and two knob sets that chance chooses. Not `fc.ops`: that compiles where it runs."""
    groups: dict[Candidate, None] = {}
    for op, problem in ON_CPUS.values():
        if op == "xnor_gemm" or (op == "int8_conv2d" and not device.machine.dot_products):
            continue
        default = operator_of("llvm", op).knobs.default(problem, device.machine)
        assert default is not None
        for knobs in (default, *random_knobs(op, problem, device.machine, 2)):
            groups[Candidate(Task(op, problem), knobs)] = None
    return [Group((candidate,), 1) for candidate in groups]


@pytest.mark.parametrize("cpu", CPUS)
def test_every_operator_equals_its_reference(cpu: str, tmp_path: Path) -> None:
    """Integers are equal, floats within what tuning allows (`check_answer`)."""
    target, machine = target_and_machine(target_of(cpu))
    device, folder = Device(spec_of(target), machine), tmp_path / "batch"
    groups = _asked(device)
    jobs, failed = write_batch(groups, device, cpu, folder, program=True)
    assert (jobs, failed) == (len(groups), [])
    assert any(group.candidates[0].task.op == "int8_conv2d" for group in groups) == machine.dot_products
    for emulator in emulators(cpu):
        done = subprocess.run(
            [*emulator, str(folder / PROGRAM)], env={}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        results = read_results(folder / RESULTS).results
        wrong = [(r.op, r.problem, r.knobs, r.error) for r in results if r.error is not None]
        assert not wrong
        assert len(results) == len(groups)
        (folder / MEASURED).unlink()


def test_code_for_another_cpu_is_told_of(tmp_path: Path) -> None:
    """A Cortex-A53 has no dot products."""
    target, machine = target_and_machine(target_of("cortex-a76"))
    op, problem = ON_CPUS["int8_conv2d"]
    knobs = operator_of("llvm", op).knobs.default(problem, machine)
    assert knobs is not None
    folder = tmp_path / "batch"
    group = Group((Candidate(Task(op, problem), knobs),), 1)
    write_batch([group], Device(spec_of(target), machine), "", folder, program=True)
    (emulator,) = emulators("cortex-a53")
    done = subprocess.run([*emulator, str(folder / PROGRAM)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    # The emulator has a line of its own before.
    assert done.stderr.splitlines()[-1].startswith("this is not the processor that the batch is for")
