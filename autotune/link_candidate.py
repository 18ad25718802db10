"""A candidate as a file that another machine can load."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tvm_fastconv.artifact.c_compiler import find_compiler
from tvm_fastconv.artifact.fatbin import link_on_gpu
from tvm_fastconv.targets import resolve_target, triple_of
from tvm_fastconv.topi.build_operator import build, compiled
from tvm_fastconv.topi.operators import Sample

from .candidate import Candidate, Device

MOST_SPILLED = 16
"""Bytes of a thread's registers that may go through memory: what ptxas gives up for another block at a time. A kernel
that spilled 1.4 KB was three times as slow as its neighbours (an `xnor_gemm`, H100)."""


def link_candidate(candidate: Candidate, device: Device, path: Path) -> Sample:
    """Build ``candidate`` for ``device``, and link it to the shared library ``path``, whose function is ``main``.

    Raises
    ------
    TargetError
        There is no C compiler for the device.
    ValueError
        It is for a GPU, and needs more registers than there are.
    """
    made = build(candidate.task.op, candidate.task.problem, candidate.knobs, device.machine)
    target = resolve_target(device.target)
    if device.on_gpu:
        spilled = max((kernel.spill_stores for kernel in link_on_gpu(made.func, target, path)), default=0)
        if spilled > MOST_SPILLED:
            raise ValueError("it needs more registers than there are: some of its values go through memory")
        return made
    compiler = find_compiler(triple_of(target))

    with tempfile.TemporaryDirectory() as folder:

        def link(output: str, objects: list[str], options: tuple[str, ...] = (), **_ignored: object) -> None:
            compiler.link(Path(folder), [Path(name).name for name in objects], path.name, options)

        unmoved = Path(folder, path.name)
        compiled(made.func, target).export_library(str(unmoved), fcompile=link, workspace_dir=folder)
        shutil.move(unmoved, path)
    return made
