#!/usr/bin/env python3
"""Write build/lookup_code.cu, lookups with their coefficients as constants of the code (as SparseRT), and them as .npz.

A thread: 2 neighbouring pixels and some filters in registers; a value of the tile is read once per block of filters.
Stride 1, odd kernels. ``python3 gen_code.py [--dry]``: small layers for the emulator.
"""

import sys
from pathlib import Path

import numpy as np

DRY = "--dry" in sys.argv
BUILD = Path(__file__).resolve().parent / "build"
HERE = BUILD / "emu" if DRY else BUILD
# name: o, k, kernel, pad, h, density, filters per block, threads, channels per tile
REAL = {
    "64@56 5%": (64, 64, 3, 1, 56, 0.05, 64, 128, 32),
    "64@56 10%": (64, 64, 3, 1, 56, 0.10, 64, 128, 32),
    "64@56 5% 32 filters": (64, 64, 3, 1, 56, 0.05, 32, 256, 32),
    "128@28 5%": (128, 64, 3, 1, 28, 0.05, 64, 128, 32),
}
SMALL = {"a": (12, 5, 3, 1, 6, 0.3, 8, 64, 3), "b": (7, 4, 5, 2, 9, 0.2, 8, 32, 4)}
HEAD = """// Written by gen_code.py. Tiles as in lookup.cu, stride 1.
// A coefficient is a constant of an FFMA, an offset one of an LDS.
#include "common.h"
struct Code { const float* s; float* y; int n; };
template <int K, int KB, int H, int PAD, int PP, int VOH, int TR, int ROWS, int PLANE, int THREADS>
__device__ __forceinline__ void fill(const Code& p, float* tile, int k0) {
  constexpr int KS = KB; int v0 = blockIdx.x * TR;
  for (int f = threadIdx.x; f < PLANE; f += THREADS) {
    int u = f / PP, x = f - u * PP - PAD, g = v0 + u, image = g / VOH, y = g - image * VOH - PAD;
    bool in = u < ROWS && image < p.n && (unsigned)y < (unsigned)H && (unsigned)x < (unsigned)H;
    const float* from = in ? p.s + ((long long)image * K + k0) * H * H + y * H + x : p.s;
    int step = in ? H * H : 0, ks = min(KS, K - k0);
#pragma unroll 4
    for (int k = 0; k < ks; ++k) { copy4(smem_of(tile + k * PLANE + f), from, in); from += step; }
  }
  copy_commit(); copy_wait<0>(); __syncthreads();
}"""


def products(w, mine, kk, r, base):
    """One row of one channel: its values into registers, then a product for every coefficient that is there."""
    kernel = w.shape[2]
    text = ["  { float " + ", ".join(f"x{c}" for c in range((kernel + 2) // 2 * 2)) + ";"]
    for c in range(0, kernel + 1, 2):
        text.append(f"  v = *(const float2*)(a + {base + c}); x{c} = v.x; x{c + 1} = v.y;")
    for c in range(kernel):
        for i, o in enumerate(mine):
            if w[o, kk, r, c]:
                value = f"{float(w[o, kk, r, c]):.9e}f"
                text.append(f"  d{i} += {value} * x{c}; e{i} += {value} * x{c + 1};")
    return [*text, "  }"]


def store(mine, o, first, h, pp, tr, voh):
    """The end of a thread: where its two pixels lie, and their sums."""
    text = [
        f"  int f = 2 * t, r = f / {pp}, x = f - r * {pp};",
        f"  int g = blockIdx.x * {tr} + r, image = g / {voh}, y = g - image * {voh};",
    ]
    text.append(f"  if (r >= {tr} || image >= p.n || y >= {h} || x >= {h}) return;")
    text.append(f"  float* to = p.y + ((long long)image * {o} + {first}) * {h * h} + y * {h} + x;")
    for i in range(len(mine)):
        if h % 2 == 0:
            text.append(f"  *(float2*)(to + {i * h * h}) = make_float2(d{i}, e{i});")
        else:
            text.append(f"  to[{i * h * h}] = d{i}; if (x + 1 < {h}) to[{i * h * h + 1}] = e{i};")
    return text


def main():
    """Write the source and the coefficients."""
    out, table, arrays = [HEAD], [], {}
    for index, (name, layer) in enumerate((SMALL if DRY else REAL).items()):
        o, k, kernel, pad, h, density, filters, threads, kb = layer
        rng = np.random.default_rng(7)
        shape = (o, k, kernel, kernel)
        w = rng.standard_normal(shape, np.float32) * (rng.random(shape, np.float32) < density)
        arrays[f"w{index}"] = w = w.astype(np.float32)
        arrays[f"layer{index}"] = np.array([o, k, kernel, pad, h])
        arrays[f"name{index}"] = np.array(name)
        pp = h + pad + (h + pad) % 2
        voh, tr = h + pad, 2 * threads // pp
        rows = tr + kernel - 1
        plane = rows * pp + pad + (rows * pp + pad) % 2
        size = 4 * (kb * plane + 2 * threads + kernel * pp)
        fill = f"fill<{k}, {kb}, {h}, {pad}, {pp}, {voh}, {tr}, {rows}, {plane}, {threads}>"
        blocks = -(-o // filters)
        for b in range(blocks):
            mine = range(b * filters, min(o, b * filters + filters))
            text = [f"__device__ __forceinline__ void body{index}_{b}(const Code& p, float* tile) {{"]
            text.append("  int t = threadIdx.x; const float* a = tile + 2 * t; float2 v, u;")
            text += [f"  float d{i} = 0.f, e{i} = 0.f;" for i in range(len(mine))]
            for k0 in range(0, k, kb):
                text.append(("  __syncthreads(); " if k0 else "  ") + f"{fill}(p, tile, {k0});")
                for kk in range(k0, min(k, k0 + kb)):
                    for r in range(kernel):
                        if w[mine.start : mine.stop, kk, r].any():
                            text += products(w, mine, kk, r, (kk - k0) * plane + r * pp)
            out.append("\n".join(text + store(mine, o, mine.start, h, pp, tr, voh)) + "\n}")
        cases = "".join(f" case {b}: body{index}_{b}(p, tile); break;" for b in range(blocks))
        bounds = f"__launch_bounds__({threads}, {3 if threads <= 128 else 2})"
        out.append(
            f"__global__ void {bounds} code{index}(Code p) {{\n  DYNAMIC_SHARED(tile);\n"
            f"  switch (blockIdx.y) {{{cases} }}\n}}"
        )
        grid = f"dim3((n * {voh} + {tr - 1}) / {tr}, {blocks}), dim3({threads}), {size}"
        table.append(f"  if (i == {index}) return launch(code{index}, {grid}, st, Code{{s, y, n}});")
    head = 'extern "C" int code_run(int i, const float* s, float* y, int n, cudaStream_t st) {\n'
    out.append(head + "\n".join(table) + "\n  return 1;\n}")
    (HERE / "lookup_code.cu").write_text("\n".join(out) + "\n")
    np.savez_compressed(HERE / "lookup_code.npz", **arrays)


main()
