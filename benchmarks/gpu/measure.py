#!/usr/bin/env python3
"""Measures the kernels that build.sh built, each part in its own process.

Every configuration is first compared with torch in float64 (outputs poisoned with NaN), then timed in CUDA graphs
of 20 calls: a sweep of 3 rounds, then medians of 7 rounds of the best ones in turns with torch. ``--out`` gets a log
of every part and summary.json. ``--dry`` runs small cases of the same kernels on the CPU (``build.sh emu``) and checks
them, without times; ``--mock`` also goes through graphs and sweeps, with a torch.cuda of nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from summarize import rows_of, write

BEGAN = time.monotonic()
# seconds at most, the start of the process included
LIMITS = {"peaks": 40, "winograd": 50, "lookup": 80, "code": 20, "separable": 35, "depthwise": 30, "int8": 25}


def attempt(args, part: str, end: float, after: str | None) -> int | str:
    """One process; how it ended."""
    command = [sys.executable, "-u", __file__, "--part", part, "--out", str(args.out)]
    command += ["--seconds", str(end - time.monotonic() - 4)]
    command += [flag for flag, on in (("--dry", args.dry), ("--mock", args.mock)) if on]
    child = subprocess.Popen(
        command + (["--after", after] if after is not None else []), start_new_session=True
    )
    try:
        return child.wait(max(1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return "timeout"


def parent(args) -> None:
    """All parts; after a crash the part goes on behind the case that crashed."""
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        log = args.out / f"{part}.jsonl"
        log.unlink(missing_ok=True)
        end, after = min(time.monotonic() + LIMITS[part] * args.scale, BEGAN + args.total), None
        for number in range(4):
            if end - time.monotonic() < 6:
                print(f"## {part}: no time left", flush=True)
                break
            print(f"## {part} (attempt {number})", flush=True)
            code = attempt(args, part, end, after)
            if code == 0:
                break
            last = next((row["at"] for row in reversed(rows_of(log)) if "at" in row), None)
            with open(log, "a") as f:
                f.write(json.dumps({"failed": f"process ended with {code}", "case": last}) + "\n")
            print(f"## {part}: ended with {code} at {last}", flush=True)
            if last is None or last == after or code == "timeout":
                break
            after = last
    results = write(args.out, args.out / "summary.json")
    count = sum(map(len, results["parts"].values()))
    print(f"## {time.monotonic() - BEGAN:.0f} s, {count} cases, {len(results['failed'])} failures")
    for error in results["failed"][:8]:
        print("##", str(error)[:300])


def peaks(S) -> None:
    """The device, cuBLAS and copies."""
    import torch

    if S.small:
        return
    p, smi = torch.cuda.get_device_properties(0), "name,driver_version,clocks.sm,clocks.mem,power.draw"
    info = {
        "device": p.name,
        "sms": p.multi_processor_count,
        "l2": p.L2_cache_size,
        "torch": torch.__version__,
    }
    info |= {"cudnn": torch.backends.cudnn.version(), "cuda": torch.version.cuda}
    command = ["nvidia-smi", f"--query-gpu={smi}", "--format=csv,noheader"]
    info["smi"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    a, b, out = S.rand(4096, 4096), S.rand(4096, 4096), S.empty(4096, 4096)
    runs = {"sgemm 4096": lambda: torch.mm(a, b, out=out)}
    for name, size in (("copy 1 GiB", 1 << 28), ("copy 16 MiB (L2)", 4 << 20)):
        x, y = torch.ones(size, device="cuda"), torch.empty(size, device="cuda")
        runs[name] = lambda x=x, y=y: y.copy_(x)
    S.write(info | {"peaks_us": S.sweep(runs, 5)})
    print("   " + str(info), flush=True)


def mock() -> None:
    """Put a torch.cuda of nothing in place."""
    import torch

    class Nothing:
        cuda_stream = 0

        def __init__(self, **how):
            pass

        def __getattr__(self, name):
            return lambda *args, **how: random.uniform(1, 2)

    torch.cuda.CUDAGraph = torch.cuda.Event = torch.cuda.Stream = Nothing
    torch.cuda.set_stream = torch.cuda.synchronize = lambda *args: None


def child(args) -> None:
    """One part."""
    if args.mock:
        mock()
    import torch
    from part_depthwise import depthwise, separable
    from part_int8 import int8
    from part_lookup import code, lookup
    from part_winograd import winograd
    from session import Session

    parts = {"peaks": peaks, "winograd": winograd, "lookup": lookup, "code": code}
    parts |= {"separable": separable, "depthwise": depthwise, "int8": int8}
    S = Session(args.part, args.out, BEGAN, args.seconds, args.after, args.dry, args.dry or args.mock)
    with torch.inference_mode():
        parts[args.part](S)


def main() -> None:
    """Read the options; run all parts, or as one of them."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "build" / "results")
    p.add_argument("--parts", nargs="*", default=list(LIMITS), choices=list(LIMITS))
    p.add_argument("--total", type=float, default=300, help="seconds for everything (77 on an H200)")
    p.add_argument("--scale", type=float, default=1.0, help="of the time limits of the parts")
    p.add_argument("--dry", action="store_true", help="on the CPU, results only")
    p.add_argument("--mock", action="store_true", help="on the CPU, through the ways of the GPU")
    for hidden in ("--part", "--after"):
        p.add_argument(hidden, help=argparse.SUPPRESS)
    p.add_argument("--seconds", type=float, default=1e9, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.part:
        child(args)
    else:
        parent(args)


if __name__ == "__main__":
    main()
