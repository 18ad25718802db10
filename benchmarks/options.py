"""Options that every script here shares, and the process they ask for: cores, threads, instruction set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol, TypeVar

from .runner import OUR_TARGETS, OURS, Settings

# What limits the rivals: oneDNN (also the one inside OpenVINO), PyTorch's own and Inductor's kernels, and MKL.
ISA_ENVIRONMENT: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


class Named(Protocol):
    """A layer, as it is listed and chosen."""

    @property
    def name(self) -> str:
        """Shape in a few words."""


L = TypeVar("L", bound=Named)
PINNED = "FASTCONV_BENCH_PINNED"


def pin_process(threads: int, isa: str) -> None:
    """Restart this process on as many cores as threads, with every library told so before it is imported.

    Returns in the restarted process. The last cores are taken, since interrupts prefer the first.

    Raises
    ------
    ValueError
        More threads than cores.
    """
    wanted = f"{threads} {isa}"
    if os.environ.get(PINNED) == wanted:
        return
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"--threads {threads}: this process may use 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[-threads:])
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")}
    os.execve(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {**os.environ, **count, **ISA_ENVIRONMENT[isa], PINNED: wanted},
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every script here shares."""
    parser.add_argument("--threads", type=int, default=1, help="threads, and cores to run on (default 1)")
    parser.add_argument("--repeats", type=int, default=11, help="turns of each engine (default 11)")
    parser.add_argument("--isa", choices=OUR_TARGETS, default="native", help="limit ours and the rivals")
    parser.add_argument("--engines", type=names, default=None, help="comma-separated; default all")
    parser.add_argument("--no-write", action="store_true", help="print only")


def parse_layers(
    description: str | None,
    layers: Sequence[L],
    min_time: float = 0.1,
    engines: tuple[str, ...] | None = None,
) -> tuple[Settings, list[L], bool]:
    """Command line of a script that measures what has a name: (settings, those asked for, whether to write)."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    parser.add_argument("--only", default="", help=f"those whose name begins like this, as {layers[0].name}")
    given = parser.parse_args()
    settings = settings_of(given, min_time, engines)
    chosen = [layer for layer in layers if layer.name.startswith(given.only)]
    if not chosen:
        sys.exit(f"no layer's name begins with {given.only!r}: there are {', '.join(x.name for x in layers)}")
    return settings, chosen, not given.no_write


def settings_of(
    options: argparse.Namespace, min_time: float = 0.1, engines: tuple[str, ...] | None = None
) -> Settings:
    """Pin the process as the options say (which restarts it), then check the engines' names.

    ``min_time`` is how long a turn of an engine lasts, in seconds; ``engines`` are those to measure unless the options
    name others, by default all.
    """
    try:
        pin_process(options.threads, options.isa)
    except ValueError as wrong:
        sys.exit(str(wrong))
    from tvm_fastconv.measure.rivals import RIVALS

    engines = options.engines or engines or (OURS, *RIVALS)
    unknown = set(engines) - {OURS, *RIVALS}
    if unknown:
        sys.exit(f"unknown engines {', '.join(sorted(unknown))}: known are {OURS}, {', '.join(RIVALS)}")
    return Settings(
        engines=engines,
        threads=options.threads,
        repeats=options.repeats,
        min_time=min_time,
        isa=options.isa,
    )


def results_name(stem: str, settings: Settings, batch: int = 1) -> str:
    """File stem that keeps measurements under different conditions apart; the usual ones have the short name."""
    parts = [stem]
    parts += [f"b{batch}"] if batch != 1 else []
    parts += [f"t{settings.threads}"] if settings.threads != 1 else []
    parts += [settings.isa] if settings.isa != "native" else []
    return "-".join(parts)


def names(text: str) -> tuple[str, ...]:
    """Comma-separated names, for argparse."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
