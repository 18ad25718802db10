"""CUDA targets: what a user may write, and the architectures that machine code is made for."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import tvm

from tvm_fastconv.topi.gpu import FIRST_TF32, GPUS, Gpu, gpu_named
from tvm_fastconv.topi.machine import Machine

from .errors import TargetError
from .runtime.gpu import compute_capability, device_name

ARCHES = (75, 80, 86, 89, 90)
"""Compute capabilities that a file is compiled for where the target names none; the last also as PTX."""

ASSUMED = 80
"""Whose sizes schedules are chosen for where the target names none and this machine has no GPU."""

_KNOWN = (75, 80, 86, 87, 89, 90)
_EVERY = "every-arch"
"""Among the libraries of a TVM target: machine code is made for all of `ARCHES`."""
_TF32 = "tf32"
"""The same: only for those that have TF32."""

GRAMMAR = '"cuda", optionally followed by -arch=sm_NN and -gpu=NAME, or a TVM tag of an NVIDIA GPU'


def is_cuda(target: tvm.target.Target) -> bool:
    """Whether code for ``target`` runs on a GPU."""
    return str(target.kind.name) == "cuda"


def with_tf32(target: tvm.target.Target, machine: Machine) -> tvm.target.Target:
    """``target`` with machine code for GPUs that multiply in TF32 alone.

    Raises
    ------
    TargetError
        It is a CPU, or a GPU without.
    """
    if isinstance(machine, Gpu) and machine.has_tf32:
        libraries = [*(str(item) for item in target.attrs.get("libs", ())), _TF32]
        return tvm.target.Target(dict(target.export()) | {"libs": libraries})
    what = f"a GPU of architecture {target.attrs['arch']}" if is_cuda(target) else "a CPU"
    raise TargetError(
        f"allow_tf32 is set, and the target is {what}, which has no TF32; allowed: GPUs from sm_{FIRST_TF32} on, "
        f'such as "cuda -arch=sm_{FIRST_TF32}"'
    )


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
    spec: str | tvm.target.Target | Mapping[str, Any],
    host: Callable[[tvm.target.Target | None], tvm.target.Target],
) -> tvm.target.Target:
    """Turn what the user wrote into a checked target of a GPU, with ``host`` of the host that it names, if it does.

    Raises
    ------
    TargetError
        Something in it is unknown.
    """
    if isinstance(spec, str):
        word, *options = spec.split()
        # A tag may name a host: a Jetson's CPU is none of this machine's.
        tagged = None if word == "cuda" else tvm.target.Target(word)
        config: dict[str, Any] = {} if tagged is None else dict(tagged.export()) | {"tag": word}
        own_host = None if tagged is None else tagged.host
        for option in options:
            name, equals, value = option.partition("=")
            if name not in ("-arch", "-gpu") or not equals:
                raise TargetError(f"unknown target option {option!r}; allowed: {GRAMMAR}")
            config[name.removeprefix("-")] = value
    else:
        config = dict(spec.export() if isinstance(spec, tvm.target.Target) else spec)
        own_host = getattr(spec, "host", None)
        if isinstance(spec, Mapping) and (unknown := set(config) - {"kind", "arch", "gpu"}):
            raise TargetError(
                f"unknown entries {sorted(map(str, unknown))} of a target; allowed: kind, arch, gpu"
            )
    return tvm.target.Target(_config(config), host=host(own_host))


def _config(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A target of TVM's whose tag is the name of the GPU's row, where one is meant."""
    row = _row(str(asked["gpu"])) if asked.get("gpu") is not None else gpu_named(str(asked.get("tag", "")))
    arch = None if asked.get("arch") is None else _digits(str(asked["arch"]))
    if arch is None and row is not None:
        arch = row.arch
    every = arch is None or _EVERY in [str(item) for item in asked.get("libs", ())]
    if arch is None:
        arch, row = present_arch() or ASSUMED, gpu_named(device_name() or "")
    if row is not None and row.arch != arch:
        if asked.get("gpu") is not None:
            raise TargetError(f"the GPU {row.name} is sm_{row.arch}, not sm_{arch}")
        row = None
    named = {} if row is None else {"tag": row.name}
    return {"kind": "cuda", "arch": f"sm_{arch}"} | named | ({"libs": [_EVERY]} if every else {})


def _row(name: str) -> Gpu:
    if name.lower() not in GPUS:
        raise TargetError(f"unknown GPU {name[:40]!r}; allowed: {', '.join(GPUS)}")
    return GPUS[name.lower()]


def _digits(arch: str) -> int:
    """90 for ``sm_90``; also for ``sm_90a``, as tags have it: what only that very architecture has is not used."""
    found = re.fullmatch(r"(?:sm_)?([1-9][0-9]{1,2})[af]?", arch, re.ASCII)
    if found is None or int(found[1]) not in _KNOWN:
        allowed = ", ".join(f"sm_{known}" for known in _KNOWN)
        raise TargetError(f"cannot compile for {arch[:40]!r}; allowed: {allowed}")
    return int(found[1])


def arches_of(target: tvm.target.Target) -> tuple[int, ...]:
    """Compute capabilities that machine code is made for."""
    libraries = [str(item) for item in target.attrs.get("libs", ())]
    if _EVERY in libraries:
        return tuple(arch for arch in ARCHES if arch >= FIRST_TF32 or _TF32 not in libraries)
    return (int(str(target.attrs["arch"]).removeprefix("sm_")),)


def gpu_spec(target: tvm.target.Target, one_arch: bool = False) -> str:
    """The text that ``target`` is made from; with ``one_arch``, for its own architecture alone."""
    if len(arches_of(target)) > 1 and not one_arch:
        return "cuda"
    tag = str(getattr(target, "tag", "") or "")
    return f"cuda -arch={target.attrs['arch']}" + (f" -gpu={tag}" if tag else "")


def present_arch() -> int | None:
    """The compute capability of this machine's first GPU, ``None`` without one, or for one that is not known."""
    found = compute_capability()
    return found if found in _KNOWN else None


def _tag(word: str) -> dict[str, Any]:
    try:
        return dict(tvm.target.Target(word).export())
    except (RuntimeError, ValueError):
        return {}
