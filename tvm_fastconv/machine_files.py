"""Measured processors in files: a target, and its row of the table.

::

    {"target": "x86_64-linux-gnu -mcpu=znver4 -num-cores=2", "machine": {"name": "zen4-measured", "lanes": 16, ...}}
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import machine_of

from .artifact.artifact import replacing
from .errors import TargetError
from .regular_files import open_regular
from .targets import resolve_target, spec_of

SUFFIX = ".json"
"""By which a target is known to be a file."""

MAX_BYTES = 64 * 1024
"""More than any such file has."""


def read_machine(path: str | os.PathLike[str]) -> tuple[str, Machine]:
    """Return the target and the machine that a file holds.

    Raises
    ------
    TargetError
        The file cannot be read, or holds something else; the message says what is wrong.
    """
    try:
        with open_regular(path) as file:
            found = json.loads(file.read(MAX_BYTES))
        if not isinstance(found, dict) or not isinstance(found.get("target"), str) or "machine" not in found:
            raise ValueError("it holds no target and machine")
        return found["target"], Machine.from_json(json.dumps(found["machine"]))
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{path} describes no machine: {error}") from None


def write_machine(path: str | os.PathLike[str], target: tvm.target.Target, machine: Machine) -> None:
    """Write a file that `read_machine` reads, whole or not at all.

    Raises
    ------
    ArtifactError
        It cannot be written.
    """
    text = json.dumps({"target": spec_of(target), "machine": asdict(machine)}, indent=2)
    with replacing(path) as temporary:
        Path(temporary).write_text(text + "\n")


def target_and_machine(
    target: str | os.PathLike[str] | tvm.target.Target | Mapping[str, Any],
    machine: str | os.PathLike[str] | Machine | None = None,
) -> tuple[tvm.target.Target, Machine]:
    """Resolve a target, and say what is known of its processor.

    Parameters
    ----------
    target
        As `resolve_target` takes it, or a file of `write_machine`.
    machine
        A row, or a file of `write_machine`, in place of the table's row for ``target``.

    Raises
    ------
    TargetError
        One of them is wrong, or they do not fit together.
    """
    row = None
    if isinstance(target, os.PathLike) or (isinstance(target, str) and target.endswith(SUFFIX)):
        target, row = read_machine(target)
    resolved = resolve_target(target)
    table = machine_of(resolved)
    if machine is not None:
        row = machine if isinstance(machine, Machine) else read_machine(machine)[1]
    if row is None:
        return resolved, table
    for field in ("kind", "lanes", "registers", "counts_words", "dot_products", "dot_bits"):
        given, needed = getattr(row, field), getattr(table, field)
        if given != needed:
            raise TargetError(
                f"machine {row.name!r} is none of target {target}: {field} is {given}, not {needed}"
            )
    return resolved, row
