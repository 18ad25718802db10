"""``fc.deploy``: a folder with everything that a device needs to run a network, check it and time it."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Records

from .artifact.artifact import reason
from .artifact.c_library import check_library_name, check_output_folder
from .artifact.manifest import Manifest
from .c_library import c_library_of
from .compiler import compile_prepared
from .errors import ArtifactError, InputError, ModelError, TargetError
from .gpu_targets import is_cuda
from .kit_files import write_programs, write_reference
from .kit_runtime import write_runtime
from .machine_files import target_and_machine
from .method_patterns import Methods
from .prepare import Prepared, prepare
from .record_files import RecordFiles, records_for
from .runtime.compiled_model import CompiledModel
from .targets import architecture, require_runtime, triple_of
from .temporary import temporary_folder
from .tvm_log import quiet_tvm
from .verify import obstacle_to_verifying
from .verify.compare import moved_by_roundings
from .verify.emulated import check_kit

LEAST_TOLERANCE = 1e-4
"""Of a check, relative to the largest expected value: sums in another order, libraries of other mathematics."""

UNSEEN_TOLERANCE = 1e-3
"""Where the compiled code was not run before, at least."""

BUILD_FILES = ("CMakeFiles", "Makefile", "Testing")
"""Where the programs are built."""

MOST_TOLERANCE = 0.1
"""Where rounding may turn a bit, and with it all that comes behind: a check that allows more tells nothing."""


@dataclass(frozen=True)
class Kit:
    """What `deploy` made.

    Attributes
    ----------
    name : str
        Of the network and its programs.
    folder : Path
    compiled : CompiledModel
        The same kernels as a file for TVM's runtime.
    """

    name: str
    folder: Path
    compiled: CompiledModel

    @property
    def manifest(self) -> Manifest:
        """Everything that is known of the network."""
        return self.compiled.manifest


@quiet_tvm()
def deploy(
    model: Any,
    example_inputs: Any = None,
    *,
    folder: str | Path,
    name: str = "model",
    target: str | Path | tvm.target.Target | Mapping[str, Any] = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    records: RecordFiles = None,
    threads: int | None = None,
    weight_growth: float = math.inf,
    tvm_runtime: bool = False,
    cc: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Kit:
    """Compile a CNN to a C library, or for TVM's runtime, with programs in C, C++ and Python that run and check it.

    Parameters
    ----------
    model, example_inputs, target, machine, methods, records, weight_growth, cc, progress
        As for `compile`. Example inputs are needed: the kit checks itself with them. The target is a CPU.
    threads : int, optional
        Which records to take: those measured with so many. By default with this machine's, or one for another machine.
    tvm_runtime : bool
        Make the programs for TVM's runtime, which comes with them, in place of a C library: what dynamic batches need.
    folder : path
        Where nothing is yet. Its ``README.md`` says how to build and run the programs.
    name : str
        Of the network, its library and its programs.

    Raises
    ------
    ModelError, TargetError, MethodError, InputError, FastconvError
        As for `compile_c_library`.
    ArtifactError
        ``folder`` holds something, or cannot be written; TVM's runtime for the target cannot be fetched.
    """
    if check_library_name(name).startswith("kit_"):
        raise InputError(f"a kit's network cannot be named {name!r}: names of its own files begin with kit_")
    if name in BUILD_FILES:
        raise InputError(f"a kit's network cannot be named {name!r}: CMake calls something of its own so")
    place = check_output_folder(folder)
    _check_empty(place)
    if tvm_runtime:
        _check_runtime_target(target_and_machine(target, machine)[0])
    tell = progress or (lambda step: None)
    prepared = prepare(model, example_inputs, target, machine, methods, None, tell, cc, weight_growth)
    if said := obstacle_to_verifying(prepared.imported.example_inputs):
        raise ModelError(f"a kit checks itself with example inputs: {said.removeprefix('not verified: ')}")
    known = records_for(records, prepared.target, prepared.machine, threads)
    make = _make_runtime if tvm_runtime else _make_library
    with temporary_folder(next(each for each in place.absolute().parents if each.exists())) as work:
        kit = work / "kit"
        try:
            compiled = make(prepared, known, kit, name, cc, tell)
            pair = compiled.reference()
            assert pair is not None, "there are example inputs"
            write_reference(kit / "reference", *pair)
            kind = "runtime" if tvm_runtime else "library"
            write_programs(kit, name, compiled.manifest, tolerance_of(compiled, prepared), kind)
            if not tvm_runtime:
                check_kit(kit, name, prepared.target, cc)
            place.absolute().parent.mkdir(parents=True, exist_ok=True)
            os.rename(kit, place)
        except OSError as error:
            raise ArtifactError(f"cannot write the kit {place}: {reason(error)}") from error
    return Kit(name, place, compiled)


def _make_library(
    prepared: Prepared, records: Records, kit: Path, name: str, cc: str | None, tell: Callable[[str], None]
) -> CompiledModel:
    """Write a C library into a kit."""
    return c_library_of(prepared, records, kit, name, cc=cc, tell=tell).compiled


def _make_runtime(
    prepared: Prepared, records: Records, kit: Path, name: str, cc: str | None, tell: Callable[[str], None]
) -> CompiledModel:
    """Write a file for TVM's runtime into a kit, and that runtime."""
    compiled = compile_prepared(prepared, records, tell=tell, cc=cc)
    manifest = compiled.manifest
    specs = (*manifest.inputs, *manifest.outputs)
    named = {extent for spec in specs for extent in spec.shape if isinstance(extent, str)}
    if len(named) > 1 or any(spec.shape.count(extent) > 1 for extent in named for spec in specs):
        shapes = "; ".join(map(str, specs))
        raise ModelError(
            f"no kit can be made: sizes must be fixed, or the batch and in a shape once: {shapes}"
        )
    kit.mkdir()
    compiled.save(kit / f"{name}.so")
    write_runtime(kit, manifest, architecture(prepared.target), tell)
    return compiled


def _check_runtime_target(target: tvm.target.Target) -> None:
    """Refuse what TVM's wheels have no runtime for, or our programs no memory."""
    if is_cuda(target):
        raise TargetError(
            "no kit can be made for a GPU: copy what compile makes; tvm_fastconv.load runs it there"
        )
    require_runtime(target)
    if not triple_of(target).endswith("-gnu"):
        raise TargetError(
            f"TVM's runtime is made for GNU's C library, and {triple_of(target)} has another; a C library is for all"
        )


def tolerance_of(compiled: CompiledModel, prepared: Prepared) -> float:
    """What a device may be off by: twice what was measured, if the code was run here, else what rounding may move."""
    if compiled.verified_error is not None:
        return max(LEAST_TOLERANCE, float(f"{2 * compiled.verified_error:.0e}"))
    examples = prepared.imported.example_inputs
    assert examples is not None, "a kit is checked with them"
    moved = moved_by_roundings(prepared.source, examples)
    return min(MOST_TOLERANCE, max(UNSEEN_TOLERANCE, float(f"{2 * moved:.0e}")))


def _check_empty(place: Path) -> None:
    """Refuse what a new folder cannot take the place of."""
    try:
        there = place.exists() or place.is_symlink()
        if there and (place.is_symlink() or not place.is_dir() or any(place.iterdir())):
            raise ArtifactError(f"{place} is there already; a kit is written where nothing is")
        if there and place.samefile("."):
            raise ArtifactError(f"{place} is the current folder; a kit gets a folder of its own")
    except OSError as error:
        raise ArtifactError(f"cannot write the kit {place}: {reason(error)}") from None
