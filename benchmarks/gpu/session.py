"""What every part of the measurement shares: cases, checks against torch in float64, CUDA graphs, medians in turns."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

BUILD = Path(__file__).resolve().parent / "build"
SMS = 132
Run = Callable[[], object]


def must(code: int) -> None:
    """Raise for what a launch returns when it fails."""
    if code:
        raise RuntimeError(f"launch failed with {code}")


def names(lib: ctypes.CDLL, what: str) -> list[str]:
    """The configurations of a kernel."""
    f = getattr(lib, what + "_name")
    f.restype = ctypes.c_char_p
    return [f(i).decode() for i in range(getattr(lib, what + "_count")())]


def first(times: dict):
    """The best name of a sweep."""
    return next(iter(times), None)


def several(*runs: Run) -> Run:
    """One after another, as one."""

    def run():
        for r in runs:
            r()

    return run


def tile_of(name: str) -> tuple[int, int, int, int, int]:
    """BM, BN, BK, threads, blocks of a product's name."""
    n = [int(v) for v in name.replace("x", " ").split() if v.isdigit()]
    return n[0], n[1], n[4], n[0] * n[1] // (n[2] * n[3]), n[6]


def product_time(name: str, m: int, n: int, k: int, count: int, splits: int) -> float:
    """A rough prediction in microseconds, to choose what to try."""
    bm, bn, bk, threads, blocks = tile_of(name)
    per_sm = min(blocks, 2048 // threads)
    waves = -(-(-(-m // bm) * -(-n // bn) * count * splits) // SMS)
    clocks = -(-k // bk) / splits * max(bm * bn * bk / 128 * 1.3, 250 / max(1, min(per_sm, waves)))
    return waves * (clocks + 1500 / min(per_sm, waves)) / 1.75e3 + m * n * 4 * count * (splits - 1) / 3e6


class Session:
    """One part: its log, its device, its errors."""

    def __init__(
        self, part: str, out: Path, began: float, seconds: float, after: str | None, dry: bool, small: bool
    ):
        self.dry, self.small, self.after, self.end = dry, small, after, began + seconds
        self.device = "cpu" if small else "cuda"
        self.log = open(out / f"{part}.jsonl", "a")  # noqa: SIM115
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(1)
        torch.set_num_threads(1)
        if not dry:
            self.stream = torch.cuda.Stream()
            torch.cuda.set_stream(self.stream)
        self.current: str | None = None
        self.errors: dict[str, float] = {}

    def write(self, row: dict) -> None:
        """One line of the log."""
        self.log.write(json.dumps(row) + "\n")
        self.log.flush()

    def case(self, name: str, measure: Callable, *args) -> None:
        """Measure a case; after a crash in it the next process goes on behind it."""
        if self.after is not None:
            self.after = None if name == self.after else self.after
            return
        if time.monotonic() > self.end:
            self.write({"failed": "no time", "case": name})
            return
        self.current, self.errors = name, {}
        self.write({"at": name})
        if os.environ.get("GPU_CRASH") == name:  # to test the parent
            os.kill(os.getpid(), signal.SIGSEGV)
        try:
            measure(self, name, *args)
        except Exception:
            self.fail("case")

    def fail(self, what: str) -> None:
        """Note the exception being handled."""
        text = traceback.format_exc(limit=3)
        self.write({"failed": text[-600:], "case": self.current, "config": what})
        print(f"   ERROR {self.current} {what}: {text.strip().splitlines()[-1][:200]}", flush=True)
        if ("CUDA error" in text or "launch failed with 7" in text) and "out of memory" not in text:
            os._exit(3)  # the context is lost: the parent starts another process

    def lib(self, name: str) -> ctypes.CDLL:
        """The kernels that build.sh made."""
        return ctypes.CDLL(str((BUILD / "emu" if self.small else BUILD) / f"lib{name}.so"))

    def rand(self, *shape: int) -> torch.Tensor:
        """Normal random numbers."""
        return torch.randn(*shape, device=self.device)

    def empty(self, *shape: int) -> torch.Tensor:
        """Memory that shows what was not written."""
        return torch.full(shape, math.nan, device=self.device)

    def call(self, function, *args) -> Run:
        """A launch with these arguments (tensors as pointers) on the stream of the session."""
        values = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in args]
        stream = None if self.dry else ctypes.c_void_p(self.stream.cuda_stream)

        def run(keep=args):
            must(function(*values, stream))

        return run

    def exact(self, x, w, **how) -> torch.Tensor:
        """Torch in float64, im2col and cuBLAS (no cuDNN)."""
        torch.backends.cudnn.enabled = False
        try:
            return torch.nn.functional.conv2d(x.double(), w.double(), **how)
        finally:
            torch.backends.cudnn.enabled = True

    def right(self, name: str, run: Run, out: torch.Tensor, ref: torch.Tensor, bound: float = 1e-4) -> bool:
        """Whether a run is right; its error is relative to the largest value."""
        try:
            out.fill_(math.nan)
            run()
            if not self.dry:
                torch.cuda.synchronize()
            off, largest = (out.double() - ref).abs(), ref.abs().max()
            error = float(off.max() / largest)
            if not error < bound:  # NaN as well
                wrong = int((~(off < bound * largest)).sum())
                raise ValueError(f"relative error {error}, {wrong} of {ref.numel()} wrong")
            self.errors[name] = error
            return True
        except Exception:
            self.fail(name)
            return False

    def checked(self, runs: dict[str, Run], out: torch.Tensor, ref: torch.Tensor) -> dict[str, Run]:
        """Those that are right."""
        return {name: run for name, run in runs.items() if self.right(name, run, out, ref)}

    def graph(self, run: Run, name: str, calls: int = 20):
        """The run captured `calls` times, or None. torch.cuda.graph would empty the cache each time."""
        try:
            calls = 2 if self.small else calls
            for _ in range(2):
                run()
            torch.cuda.synchronize()
            g = torch.cuda.CUDAGraph()
            g.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(calls):
                    run()
            finally:
                g.capture_end()
            g.replay()
            torch.cuda.synchronize()
            return g
        except Exception:
            self.fail(name)
            return None

    def time(self, runs: dict[str, Run], rounds: int, calls: int = 20) -> dict[str, float]:
        """Names to median microseconds of one call, all in turns."""
        if self.dry:
            return dict.fromkeys(runs, 1.0)
        graphs = {name: g for name, run in runs.items() if (g := self.graph(run, name)) is not None}
        times: dict[str, list[float]] = {name: [] for name in graphs}
        for _ in range(rounds):
            for name, g in graphs.items():
                a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                a.record()
                g.replay()
                b.record()
                b.synchronize()
                times[name].append(a.elapsed_time(b) * 1e3 / calls)
        return {name: statistics.median(t) for name, t in times.items()}

    def sweep(self, runs: dict[str, Run], rounds: int = 3) -> dict[str, float]:
        """The times of many, the best first."""
        return dict(sorted(self.time(runs, rounds).items(), key=lambda x: x[1]))

    def torch_conv(self, x, w, bias=None, **how) -> dict[str, Run]:
        """The layer in torch, both layouts."""
        conv, last = torch.nn.functional.conv2d, torch.channels_last
        xl, wl = x.contiguous(memory_format=last), w.contiguous(memory_format=last)
        return {
            "torch NCHW": lambda: conv(x, w, bias, **how),
            "torch NHWC": lambda: conv(xl, wl, bias, **how),
        }

    def report(
        self, runs: dict[str, Run], rivals: dict[str, Run], context: dict[str, Run] | None = None, **more
    ) -> dict:
        """Ours and the rivals (and what is not compared) in turns, then one line of the log and one on the screen."""
        times = self.time({**runs, **rivals, **(context or {})}, 7)
        rival, which = min(((times[k], k) for k in rivals if k in times), default=(math.nan, "none"))
        ours, name = min((times[k], k) for k in runs if k in times)
        error = max(self.errors.values())
        row = {"case": self.current, "us": times, "error": error, "checked": len(self.errors), "rival": which}
        row |= {"speedup": rival / ours, **more}
        self.write(row)
        others = ", ".join(f"{k} {v:.1f}" for k, v in times.items() if k not in (name, which))
        line = (
            f"{self.current}: {ours:.1f} us ({name}), {which} {rival:.1f} us, x {rival / ours:.2f}; {others}"
        )
        print(f"   {line}; {len(self.errors)} checked, error {error:.1e}", flush=True)
        return row
