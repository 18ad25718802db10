"""``fc.compile_c_library``: the pipeline of `compile`, with a C library at its end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Records

from .artifact.c_library import build_c_library, check_library_name, check_output_folder
from .artifact.manifest import Manifest
from .compiler import compile_prepared
from .errors import FastconvError, ModelError
from .gpu_targets import is_cuda
from .method_patterns import Methods
from .prepare import Prepared, compiling, prepare
from .record_files import RecordFiles, records_for
from .runtime.compiled_model import CompiledModel
from .targets import triple_of
from .tvm_log import quiet_tvm
from .verify import obstacle_here
from .verify.c_library_call import call_c_library


@dataclass(frozen=True)
class CLibrary:
    """What `compile_c_library` made.

    Attributes
    ----------
    name : str
        What its functions begin with.
    files : tuple of Path
        Header, static and shared library, and weights where they are apart.
    compiled : CompiledModel
        The same kernels as a file for TVM's runtime, which verification has run.
    """

    name: str
    files: tuple[Path, ...]
    compiled: CompiledModel

    @property
    def manifest(self) -> Manifest:
        """Everything that is known of it."""
        return self.compiled.manifest


@quiet_tvm()
def compile_c_library(
    model: Any,
    example_inputs: Any = None,
    *,
    folder: str | Path,
    name: str = "model",
    separate_weights: bool = False,
    target: str | Path | tvm.target.Target | Mapping[str, Any] = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    records: RecordFiles = None,
    threads: int | None = None,
    weight_growth: float = math.inf,
    verify: bool = True,
    dump_ir: str | Path | None = None,
    cc: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> CLibrary:
    """Compile a CNN to a C library that needs nothing: no TVM, no Python, no allocation, no global state.

    Parameters
    ----------
    model, example_inputs, target, machine, methods, records, weight_growth, verify, dump_ir, cc, progress
        As for `compile`. Shapes must be fixed, and the target a CPU.
    threads : int, optional
        Which records to take: those measured with so many. By default with this machine's, or one for another machine.
    folder : path
        Gets ``NAME.h``, which says how to call it, ``libNAME.a`` and ``libNAME.so``.
    name : str
        Of the library, and what its functions begin with; several networks in one program have each another.
    separate_weights : bool
        Write the weights to ``NAME.weights``, which the program maps or reads, instead of into the library.

    Returns
    -------
    CLibrary
        Its files, and their manifest.

    Raises
    ------
    ModelError, TargetError, MethodError, InputError, FastconvError
        As for `compile`; or the model needs TVM's virtual machine, or ``name`` is no name of a C library.
    """
    tell = progress or (lambda step: None)
    check_library_name(name)
    check_output_folder(folder)
    prepared = prepare(model, example_inputs, target, machine, methods, dump_ir, tell, cc, weight_growth)
    known = records_for(records, prepared.target, prepared.machine, threads)
    return c_library_of(prepared, known, folder, name, separate_weights, verify=verify, cc=cc, tell=tell)


def c_library_of(
    prepared: Prepared,
    records: Records,
    folder: str | Path,
    name: str,
    separate_weights: bool = False,
    *,
    verify: bool = True,
    cc: str | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> CLibrary:
    """The rest of `compile_c_library`."""
    check_fixed(prepared)
    files: list[Path] = []

    def make_library(scheduled: tvm.IRModule, compiled: CompiledModel) -> None:
        def check(made: Path) -> None:
            if verify and _runs_here(prepared.target):
                _check_answers(made, name, separate_weights, compiled)

        tell("making the C library")
        with compiling(prepared.target):
            files.extend(
                build_c_library(
                    scheduled,
                    prepared.target,
                    folder,
                    name,
                    input_names=prepared.imported.input_names,
                    output_names=prepared.imported.output_names,
                    separate_weights=separate_weights,
                    cc=cc,
                    check=check,
                )
            )

    compiled = compile_prepared(prepared, records, verify=verify, tell=tell, cc=cc, then=make_library)
    return CLibrary(name, tuple(files), compiled)


def _runs_here(target: tvm.target.Target) -> bool:
    """Whether a library for ``target`` can be loaded into this process, which is of GNU's C library."""
    return not obstacle_here(target) and "musl" not in triple_of(target)


def _check_answers(folder: Path, name: str, separate_weights: bool, compiled: CompiledModel) -> None:
    """Refuse a library that computes anything else than the file that was verified: its memory is planned anew."""
    if (pair := compiled.reference()) is None:
        return
    weights = folder / f"{name}.weights" if separate_weights else None
    specs = compiled.manifest.outputs
    got = call_c_library(folder / f"lib{name}.so", name, pair[0], specs, weights)
    want = compiled(*pair[0])
    for spec, one, other in zip(specs, got, want if isinstance(want, tuple) else (want,), strict=True):
        if not np.array_equal(one, other, equal_nan=other.dtype.kind == "f"):
            raise FastconvError(
                f"the C library is wrong: it computes another {spec.name} than the file for TVM's runtime. "
                "This is a bug in tvm-fastconv"
            )


def check_fixed(prepared: Prepared) -> None:
    """Refuse early what is known to need a virtual machine."""
    if is_cuda(prepared.target):
        raise ModelError("no C library can be made: its target is a CPU, and not a GPU")
    for param in prepared.canonical["main"].params:
        if not all(isinstance(extent, tvm.tirx.IntImm) for extent in param.ty.shape):
            raise ModelError(
                "no C library can be made: the model needs TVM's virtual machine, since shapes are dynamic; for a "
                "kit with it, deploy for TVM's runtime (--tvm-runtime)"
            )
