"""What stands in the way of a compiled file in this process, and how far an answer is off."""

import numpy as np

from ..artifact.artifact import Artifact, abi_name
from ..artifact.elf import process_machine
from .cpu import missing_features
from .gpu import gpu_obstacle
from .tvm_runtime import installed_version


def obstacle_of(artifact: Artifact) -> str | None:
    """Return why this process cannot run the file, ``None`` if it can."""
    path, manifest = artifact.path, artifact.manifest
    machine = process_machine()
    if artifact.elf.machine != machine:
        return f"{path} holds code for {artifact.elf.machine}; this process runs {machine}"
    if missing := missing_features(manifest.cpu_features):
        return (
            f"{path} was compiled for a CPU with {', '.join(missing)}, which this CPU lacks; "
            "compile it for target native, or for the -mcpu of this machine"
        )
    if manifest.gpu_arches and (reason := gpu_obstacle(manifest.gpu_arches)):
        return f"{path} cannot run here: {reason}"
    versions = [installed_version(name) for name in ("apache-tvm", "apache-tvm-ffi")]
    if None not in versions and (here := abi_name(machine, *map(str, versions))) != manifest.abi:
        return f"{path} was compiled for {manifest.abi}; this process has {here}: compile it again with these versions"
    return None


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """Return max|got - want| / max|want| over finite values, infinite where shapes, infinities or NaNs differ."""
    finite = np.isfinite(want)
    if got.shape != want.shape or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return float("inf")
    got, want = got[finite].astype(np.float64), want[finite].astype(np.float64)
    error = float(np.abs(got - want).max(initial=0.0) / (np.abs(want).max(initial=0.0) or 1))
    return error if np.isfinite(error) else float("inf")
