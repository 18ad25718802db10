"""Tiles and lists of lookup.cu: how big a tile of one configuration is, what its lists hold, how long it may take."""

from __future__ import annotations

import ctypes

import numpy as np
from session import SMS

POINTERS = ["s", "x", "dt", "list", "begin", "y"]
SIZES = [
    "n",
    "k",
    "h",
    "w",
    "o",
    "oh",
    "ow",
    "kh",
    "stride",
    "pad",
    "pp",
    "lp",
    "voh",
    "plane",
    "rows",
    "chunks",
    "kb",
]
SIZES += ["tr", "wp", "c", "kp", "opad"]


class Look(ctypes.Structure):
    """struct Look of lookup.cu."""

    _fields_ = [(k, ctypes.c_void_p) for k in POINTERS] + [(k, ctypes.c_int) for k in SIZES]


def up(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)


def plan(cfg, layer, n: int, k: int, wp: int, kb: int):
    """The tile of one configuration, or None: fields of Look, bytes."""
    (p, opw, threads, kt), (c, o, kernel, s, pad, h) = cfg, layer
    oh = (h + 2 * pad - kernel) // s + 1
    if s == 1:
        pp = lp = h + pad
    else:
        lp, pp = oh, max(up(h + 2 * pad, s), ((oh - 1) * s + kernel - 1) // s + 1)
        found = []  # pitches without bank conflicts between rows of pixels
        for a in range(lp, lp + 9):
            found += [(b - pp + a - lp, a, b) for b in range(pp, pp + 12) if (s * s * b - a) % 32 == 0]
        if found:
            _, lp, pp = min(found)
    voh = max(oh, up(pad + h, s), up(s * (oh - 1) + kernel - pad, s))
    lanes = wp * p * 32
    tr = min(lanes // lp, n * voh)
    if tr < 1 or (kt and kb < k):
        return None
    row, rows = s * pp, (tr - 1) * s + kernel
    plane = rows * row + (pad if s == 1 else 0)
    top = lanes - 1 if s == 1 else (lanes - 1) // lp * s * row + lp - 1
    reach = (kernel - 1) * row + (s - 1) * pp + (kernel - 1) // s
    floats = max(kb * plane, (kb - 1) * plane + top + reach + 1)
    per = threads // 32 // wp * opw
    fields = dict(n=n, k=k, h=h, w=h, o=o, oh=oh, ow=oh, kh=kernel, stride=s, pad=pad, pp=pp, lp=lp, voh=voh)  # noqa: C408
    fields |= dict(plane=plane, rows=rows, chunks=up(k, kb), kb=kb, tr=tr, wp=wp, c=c)  # noqa: C408
    return fields | {"kp": up(k, 16) * 16, "opad": up(o, per) * per}, floats * 4


def lists(f: dict, coefficients):
    """Lists of the nonzero coefficients [o][k][r][c]: int4 (offset, value, offset, value), beginnings in int4."""
    o, k, r, c = np.nonzero(coefficients)
    value = coefficients[o, k, r, c].astype(np.float32)
    chunk, kk, s = k // f["kb"], k % f["kb"], f["stride"]
    offset = 4 * (kk * f["plane"] + r * s * f["pp"] + c % s * f["pp"] + c // s)
    which = chunk * f["opad"] + o
    order = np.argsort(which, kind="stable")
    which, offset, value = which[order], offset[order], value[order]
    count = np.bincount(which, minlength=f["chunks"] * f["opad"])
    begin = np.concatenate([[0], np.cumsum(-(-count // 2))]).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(count)])[:-1]
    at = 2 * begin[which] + np.arange(len(which)) - start[which]
    out = np.zeros((2 * int(begin[-1]) + 4, 2), np.int32)
    out[at, 0], out[at, 1] = offset, value.view(np.int32)
    return out, begin


def predicted(cfg, planned, nnz: int, channels: int) -> float:
    """A rough prediction in microseconds, to choose what to try (it came out 1.1 to 2.3 times too low at batch 32)."""
    (p, opw, threads, kt), (f, size) = cfg, planned
    warps = threads // 32
    per = warps // f["wp"] * opw
    blocks = up(f["n"] * f["voh"], f["tr"]) * up(f["o"], per)
    registers = threads * (p * opw + 40)
    per_sm = max(1, min(232448 // (size + 1024), 2048 // threads, 65536 // registers))
    nz = nnz / f["o"]
    lds = warps * opw * (nz * p * 1.1 + 10 * f["chunks"])
    fill = f["k"] * f["plane"] * (channels / 100 if kt else 1 / 16)
    chain = opw * f["chunks"] * 120 + opw * nz * 12 + (channels * 60 if kt else f["chunks"] * 800)
    clocks = up(blocks, SMS * per_sm) * max(min(per_sm, up(blocks, SMS)) * (lds + fill), chain)
    return clocks / 1.75e3 + 1.5


def plans(cfg, layer, n: int, k: int, dry: bool):
    """The tiles worth a try for one configuration: as many channels as fit into a quarter .. all of shared memory."""
    sizes = sorted(
        {k, *(v for v in (1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 48, 64, 96, 128) if v < k)}, reverse=True
    )
    rooms = (1500, 3000, 9000, 227 << 10) if dry else (56 << 10, 75 << 10, 113 << 10, 227 << 10)
    for wp in (1, 2, 4, 8, 16):
        seen = set()
        for room in rooms if wp <= cfg[2] // 32 else ():
            for kb in sizes:
                planned = plan(cfg, layer, n, k, wp, kb)
                if planned and planned[1] <= min(room, 232448):
                    if kb not in seen:
                        yield planned
                    seen.add(kb)
                    break
