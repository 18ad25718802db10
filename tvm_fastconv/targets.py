"""Compilation targets: what a user may write, and which CPU features the code for a target needs.

LLVM falls back to a generic CPU when it does not know a name, and crashes on some triples, so every part of a target
is compared with LLVM's own lists before LLVM sees it.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tvm
from tvm.target import codegen

from tvm_fastconv.topi.machines import machine_of

from .architectures import ARCHITECTURES, Architecture
from .errors import TargetError
from .gpu_targets import GRAMMAR as GPU_GRAMMAR
from .gpu_targets import cuda_target, gpu_spec, host_of, is_cuda, names_cuda
from .runtime.cpu import host_features

DEFAULT_CORES = 4
"""Cores assumed where a target is not this machine and does not say ``-num-cores``."""

MAX_CORES = 1024
"""More than any machine has."""

NATIVE_CPU = "FASTCONV_NATIVE_CPU"
"""Environment variable with LLVM's name of the CPU that ``native`` stands for, in place of this machine's own."""

BOARDS = {
    "raspberry-pi/3b-aarch64": ("cortex-a53", 4),
    "raspberry-pi/4b-aarch64": ("cortex-a72", 4),
    "raspberry-pi/5-aarch64": ("cortex-a76", 4),
}
"""Boards, TVM's tags or not: their CPU in LLVM's words, and its cores."""

_OPTIONS = ("mcpu", "mattr", "num-cores")
_TRIPLES = " or ".join(f"{name}-linux-{row.abi}" for name, row in sorted(ARCHITECTURES.items()))
_GRAMMAR = (
    '"native", an LLVM triple such as "x86_64-linux-gnu", a CPU such as "cortex-a72", or a board or TVM tag such as '
    '"raspberry-pi/4b-aarch64", each optionally followed by '
    f"-mcpu=NAME, -mattr=+FEATURE,-FEATURE and -num-cores=N; or {GPU_GRAMMAR}"
)


def resolve_target(spec: str | tvm.target.Target | Mapping[str, Any]) -> tvm.target.Target:
    """Turn what the user wrote into a checked TVM target with a triple, a CPU, its features and a number of cores.

    Parameters
    ----------
    spec
        ``"native"``, an LLVM triple, a CPU (``"cortex-a72"``: Linux on it), or a board or TVM tag
        (``"raspberry-pi/4b-aarch64"``), each optionally followed by options
        (``"x86_64-linux-gnu -mcpu=skylake-avx512 -mattr=+gfni -num-cores=8"``), or a TVM target.
        ``native`` is this machine's CPU less what its hypervisor or operating system hides. Where the
        environment variable ``FASTCONV_NATIVE_CPU`` names another CPU, it is that one less what this one lacks:
        what is chosen and scheduled for it, in code that runs here. A GPU is ``"cuda"``, ``"cuda -arch=sm_90"``, a tag
        such as ``"nvidia/nvidia-h100"``, ``"cuda -gpu=l4"`` or ``{"kind": "cuda", "arch": "sm_90"}``;
        its host is any CPU of this architecture, since it only calls kernels.

    Returns
    -------
    tvm.target.Target
        An LLVM target, or one of CUDA with an LLVM target as its host. With AVX-512 the CPU's carries
        ``-prefer-256-bit``, or LLVM would stay at 256 bits.

    Raises
    ------
    TargetError
        Naming the part that is unknown and what is known in its place; or where the CPU that
        ``FASTCONV_NATIVE_CPU`` names would be scheduled for as another one without what this one lacks.
    """
    if isinstance(spec, str | tvm.target.Target | Mapping) and names_cuda(spec):
        return cuda_target(spec, _checked_host)
    if isinstance(spec, tvm.target.Target | Mapping):
        config = dict(spec.export() if isinstance(spec, tvm.target.Target) else spec)
    elif not isinstance(spec, str):
        raise TargetError(f"the target is {spec!r}; allowed: {_GRAMMAR}, or a TVM target")
    else:
        words = spec.split()
        if not words:
            raise TargetError(f"the target is empty; allowed: {_GRAMMAR}")
        config = _base_config(words[0]) | _options(words[1:])
    return _checked_target(config)


def _checked_host(host: tvm.target.Target | None) -> tvm.target.Target:
    """The CPU that calls a GPU's kernels: any of this machine's architecture, or a checked one."""
    return resolve_target(_host_triple()) if host is None else _checked_target(dict(host.export()))


def spec_of(target: tvm.target.Target) -> str:
    """Return the text that `resolve_target` makes ``target``, which it has made, from."""
    if is_cuda(target):
        return gpu_spec(target)
    options = [str(target.attrs["mtriple"])]
    if cpu := str(target.attrs.get("mcpu", "")):
        options.append(f"-mcpu={cpu}")
    if features := [str(item) for item in target.attrs.get("mattr", ())]:
        options.append(f"-mattr={','.join(features)}")
    return " ".join([*options, f"-num-cores={int(target.attrs['num-cores'])}"])


def cpu_features(target: tvm.target.Target) -> tuple[str, ...]:
    """Return the LLVM features that code for ``target`` may use and the loader has to find in the CPU, sorted."""
    return tuple(sorted(_llvm_features(host_of(target)) & set(ARCHITECTURES[architecture(target)].features)))


def require_runtime(target: tvm.target.Target) -> None:
    """Raise where TVM has no runtime.

    Raises
    ------
    TargetError
        For the target's CPU, only C libraries can be made.
    """
    if not _row(triple_of(target)).has_runtime:
        raise TargetError(
            f"TVM has no runtime for {triple_of(target)}: make a C library (compile --emit c-library), a kit (deploy), "
            "or a batch that is a program (--export-batch with --program)"
        )


def architecture(target: tvm.target.Target) -> str:
    """Return the first part of the triple of the target's CPU: ``x86_64``, ``aarch64`` or ``armv7l``."""
    return triple_of(target).split("-")[0]


def triple_of(target: tvm.target.Target) -> str:
    """Return LLVM's triple of the target's CPU."""
    return str(host_of(target).attrs["mtriple"])


def known_cpus(triple: str) -> tuple[str, ...]:
    """Return LLVM's names of the 64-bit CPUs of ``triple``'s architecture, one spelling of each."""
    names = sorted(codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm", "mtriple": triple})))
    dashed = [name for name in names if name.replace("_", "-") == name or name.replace("_", "-") not in names]
    needed = set(_row(triple).needed)
    return tuple(name for name in dashed if not needed or needed <= _features_of(triple, name))


def known_tags() -> tuple[str, ...]:
    """Return the boards, ours and TVM's tags, that stand for a CPU we compile for."""
    tags = tvm.get_global_func("target.TargetTagListTags")()
    supported = (str(tag) for tag, target in tags.items() if _is_supported(dict(target.export())))
    return tuple(sorted({*BOARDS, *supported}))


def _base_config(word: str) -> dict[str, Any]:
    word = re.sub("^(arm|armv7|armv7a)-(.*eabihf)$", r"armv7l-\2", word)  # what C compilers call it
    if word == "native":
        return _native_config()
    if _is_supported({"kind": "llvm", "mtriple": word}):
        return {"kind": "llvm", "mtriple": word}
    if word in BOARDS:
        cpu, cores = BOARDS[word]
        return _config_of_cpu(cpu) | {"num-cores": cores}
    if word in known_tags():
        return dict(tvm.target.Target(word).export())
    if config := _config_of_cpu(word):
        return config
    raise TargetError(
        f"unknown target {word!r}; allowed: {_GRAMMAR}. Triples: {_TRIPLES}. Tags: {', '.join(known_tags())}"
    )


def _config_of_cpu(cpu: str) -> dict[str, Any]:
    """Of the one architecture that has a CPU of this name; nothing where none has."""
    for name, row in ARCHITECTURES.items():
        triple = f"{name}-linux-{row.abi}"
        if cpu != "generic" and (cpu in row.aliases or cpu in known_cpus(triple)):
            return {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    return {}


def _native_config() -> dict[str, Any]:
    triple, other = _host_triple(), os.environ.get(NATIVE_CPU, "")
    if not _is_supported({"kind": "llvm", "mtriple": triple}):
        raise TargetError(f"cannot compile for this machine, {triple}; name a target like {_TRIPLES}")
    if other:
        _check_cpu(triple, other, NATIVE_CPU)
    cpu = other or str(codegen.llvm_get_system_cpu())
    named = _features_of(triple, cpu) & set(_row(triple).features)
    present = host_features()
    lacking, further = sorted(named - present), sorted(present - named)
    if other:
        _check_same_machine(triple, cpu, lacking)
        further = []
    mattr = [f"-{name}" for name in lacking] + [f"+{name}" for name in further]
    return {"kind": "llvm", "mtriple": triple, "mcpu": cpu, "mattr": mattr, "num-cores": _host_cores()}


def _check_same_machine(triple: str, cpu: str, lacking: list[str]) -> None:
    """Refuse ``cpu`` as a stand-in if the schedules see another processor where its ``lacking`` features are off."""
    whole = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    rest = whole | ({"mattr": [f"-{name}" for name in lacking]} if lacking else {})
    if machine_of(tvm.target.Target(whole)) != machine_of(tvm.target.Target(rest)):
        raise TargetError(
            f"{NATIVE_CPU}={cpu}: this machine cannot stand in for that CPU, it lacks {', '.join(lacking)}; "
            "allowed: a CPU whose vector instructions it has"
        )


def _host_triple() -> str:
    """Return LLVM's triple of this machine without the vendor, which says who built TVM."""
    triple = str(codegen.llvm_get_system_triple())
    name = triple.split("-")[0]
    return (
        f"{name}-linux-{ARCHITECTURES[name].abi}" if "linux" in triple and name in ARCHITECTURES else triple
    )


def _host_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options(words: Iterable[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for word in words:
        key, _, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or key not in _OPTIONS or not value:
            raise TargetError(f"unknown target option {word!r}; allowed: -mcpu=, -mattr=, -num-cores=")
        if key in options:
            raise TargetError(f"target option -{key}= is given twice")
        options[key] = value
    if "mattr" in options:
        options["mattr"] = options["mattr"].split(",")
    if "num-cores" in options:
        text = options["num-cores"]
        options["num-cores"] = int(text) if text.isdecimal() and len(text) <= len(str(MAX_CORES)) else text
    return options


def _checked_target(config: dict[str, Any]) -> tvm.target.Target:
    if not _is_supported(config):
        raise TargetError(
            f"cannot compile for target kind {config.get('kind')!r}, triple {config.get('mtriple')!r}; "
            f"allowed: kind 'llvm' with a triple like {_TRIPLES}"
        )
    cores = config.get("num-cores", DEFAULT_CORES)
    if not isinstance(cores, int) or not 1 <= cores <= MAX_CORES:
        raise TargetError(f"-num-cores={str(cores)[:40]} is not a number of cores; allowed: 1 to {MAX_CORES}")
    triple = str(config.setdefault("mtriple", _host_triple()))
    cpu, mattr = str(config.get("mcpu", "")), [str(item) for item in config.get("mattr", ())]
    if not cpu and _row(triple).least_cpu:
        cpu = config["mcpu"] = _row(triple).least_cpu
    if cpu in _row(triple).aliases:
        cpu = config["mcpu"] = _row(triple).aliases[cpu]
    if cpu:
        _check_cpu(triple, cpu, "mcpu")
    _check_features(triple, mattr)
    features = _features_of(triple, cpu, mattr)
    row = _row(triple)
    if lacking := [name for name in row.needed if name not in features]:
        raise TargetError(f"nothing is compiled for {triple} without {' and '.join(lacking)}")
    mattr += [f"-{name}" for name in row.unchecked if name in features]
    for preference, feature in row.unwanted.items():
        if feature in features and f"+{preference}" not in mattr and f"-{preference}" not in mattr:
            mattr.append(f"-{preference}")
    # Parsed features and the tag describe what was; TVM derives them again from the parts above.
    kept = {key: value for key, value in config.items() if key != "tag" and not key.startswith("feature.")}
    kept.setdefault("num-cores", DEFAULT_CORES)
    if row.float_abi:
        kept["mfloat-abi"] = row.float_abi
    return tvm.target.Target(kept | ({"mattr": mattr} if mattr else {}))


def _is_supported(config: dict[str, Any]) -> bool:
    first, *others = (str(config.get("mtriple", "")) or _host_triple()).split("-")
    if config.get("kind") != "llvm" or first not in ARCHITECTURES or "linux" not in others:
        return False
    # Elsewhere, functions take floats in other registers.
    return not ARCHITECTURES[first].float_abi or others[-1].endswith("eabihf")


def _check_cpu(triple: str, cpu: str, where: str) -> None:
    known = known_cpus(triple)
    if cpu not in known and cpu.replace("_", "-") not in known:
        raise TargetError(f"unknown {where} {cpu!r} for {triple}; {_suggest(cpu, known)}")


def _check_features(triple: str, mattr: list[str]) -> None:
    """Refuse features that the loader could not check, and the basic ones that no code can do without."""
    row = _row(triple)
    known = {*row.features, *row.unchecked, *row.unwanted}
    for item in mattr:
        if item[:1] not in ("+", "-") or item[1:] not in known:
            raise TargetError(
                f"unknown feature {item!r} in mattr for {triple}; write +NAME or -NAME; {_suggest(item[1:], known)}"
            )


def _row(triple: str) -> Architecture:
    return ARCHITECTURES[triple.split("-")[0]]


def _suggest(name: str, known: Iterable[str]) -> str:
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}Known: {', '.join(listed)}"


def _features_of(triple: str, cpu: str, mattr: Iterable[str] = ()) -> set[str]:
    config = {"kind": "llvm", "mtriple": triple} | ({"mcpu": cpu} if cpu else {})
    return _llvm_features(tvm.target.Target(config | ({"mattr": list(mattr)} if mattr else {})))


def _llvm_features(target: tvm.target.Target) -> set[str]:
    return {str(name) for name in codegen.llvm_get_cpu_features(target)}
