"""CUDA targets: what a user may write, and the architectures that machine code is made for."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import tvm

from .errors import TargetError

ARCHES = (75, 80, 86, 89, 90)
"""Compute capabilities that a file is compiled for where the target names none; the last also as PTX."""

ASSUMED = 80
"""Whose sizes schedules are chosen for where the target names none and this machine has no GPU."""

_KNOWN = (75, 80, 86, 87, 89, 90)
GRAMMAR = '"cuda", optionally followed by -arch=sm_NN, or a TVM tag of an NVIDIA GPU'


def is_cuda(target: tvm.target.Target) -> bool:
    """Whether code for ``target`` runs on a GPU."""
    return str(target.kind.name) == "cuda"


def host_of(target: tvm.target.Target) -> tvm.target.Target:
    """The CPU that calls the kernels of ``target``; itself, if it is one."""
    return target.host if is_cuda(target) else target


def names_cuda(spec: str | tvm.target.Target | Mapping[str, Any]) -> bool:
    """Whether a user's target is one of a GPU."""
    if isinstance(spec, tvm.target.Target):
        return is_cuda(spec)
    if isinstance(spec, Mapping):
        return spec.get("kind") == "cuda"
    word = spec.split()[0] if spec.split() else ""
    return word == "cuda" or (word.startswith("nvidia/") and "cuda" in str(_tag(word).get("kind")))


def cuda_target(
    spec: str | tvm.target.Target | Mapping[str, Any], host: Callable[[], tvm.target.Target]
) -> tvm.target.Target:
    """Turn what the user wrote into a checked target of a GPU, whose host is ``host()``.

    Raises
    ------
    TargetError
        Something in it is unknown.
    """
    if isinstance(spec, tvm.target.Target):
        config, own_host = dict(spec.export()), spec.host
    elif isinstance(spec, Mapping):
        config, own_host = dict(spec), None
    else:
        word, *options = spec.split()
        config, own_host = ({"kind": "cuda"} if word == "cuda" else _tag(word)), None
        for option in options:
            if not option.startswith("-arch="):
                raise TargetError(f"unknown target option {option!r}; allowed: {GRAMMAR}")
            config["arch"] = option.removeprefix("-arch=")
    # Of tags, 90a among them: what only that very architecture has is not used.
    arch = str(config.get("arch", "")).removeprefix("sm_").rstrip("af")
    if arch and (not arch.isdigit() or int(arch) not in _KNOWN):
        allowed = ", ".join(f"sm_{known}" for known in _KNOWN)
        raise TargetError(f"cannot compile for {config['arch']!r}; allowed: {allowed}")
    made: dict[str, Any] = {"kind": "cuda", "arch": f"sm_{arch or present_arch() or ASSUMED}"}
    made |= {key: config[key] for key in ("target_device_type",) if key in config}
    if not arch:
        made["libs"] = ["every-arch"]
    return tvm.target.Target(made, host=own_host or host())


def arches_of(target: tvm.target.Target) -> tuple[int, ...]:
    """Compute capabilities that machine code is made for."""
    if "every-arch" in [str(item) for item in target.attrs.get("libs", ())]:
        return ARCHES
    return (int(str(target.attrs["arch"]).removeprefix("sm_")),)


def present_arch() -> int | None:
    """The compute capability of this machine's first GPU, ``None`` without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first = done.stdout.strip().splitlines()[:1]
    digits = first[0].strip().replace(".", "") if first else ""
    return int(digits) if digits.isdigit() and int(digits) in _KNOWN else None


def _tag(word: str) -> dict[str, Any]:
    try:
        return dict(tvm.target.Target(word).export())
    except (RuntimeError, ValueError):
        return {}
