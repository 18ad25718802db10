"""3x3, stride 1, by Winograd: three kernels with every product, one kernel; cuDNN; the plain product."""

from __future__ import annotations

import torch
from session import Session, first, names, product_time, several, tile_of

LAYERS = [(64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7)]
SMALL = [
    *[(1, 8, 64, 8), (3, 16, 68, 7), (2, 16, 64, 13), (3, 24, 128, 6), (1, 12, 20, 5)],
    *[(1, 64, 128, 5), (3, 16, 32, 12), (1, 24, 96, 4), (2, 8, 64, 28)],
]
G = {
    2: [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
    4: [
        *[[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]],
        *[[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    ],
}


def filter_tiles(w, f):
    """[e][c][o] in float64, then float32."""
    g = torch.tensor(G[f], dtype=torch.float64, device=w.device)
    u = torch.einsum("ik,ockl,jl->ijco", g, w.double(), g)
    return u.reshape((f + 2) ** 2, w.shape[1], w.shape[0]).float().contiguous()


def three_kernels(S: Session, lib, f, x, w, y, ref):
    """The best complete runs for this tile, and the times of their stages."""
    (n, c, h, _), o = x.shape, w.shape[0]
    configs, tiles = names(lib, "wino"), -(-h // f)
    e, t = (f + 2) ** 2, n * tiles**2
    tp = -(-t // 4) * 4
    choices = []
    for i, name in enumerate(configs):
        for splits in (1, 2, 4, 8):
            if splits == 1 or c // tile_of(name)[2] // splits >= 2:
                choices.append((product_time(name, o, tp, c, e, splits), i, splits))
    choices = sorted(choices)[: 99 if S.dry else 8]
    u, v = filter_tiles(w, f), torch.zeros(e, c, tp, device=S.device)
    m = S.empty(max(s for _, _, s in choices), e, o, tp)

    def stages(i, splits, which=7):
        return S.call(lib.wino_run, i, f, which, x, u, v, m, y, n, c, h, h, o, tp, splits)

    def slices(i, splits, count):  # v and m of a slice stay in L2
        some = n // count
        ts = -(-(some * tiles**2) // 4) * 4
        part = [(x[b * some], y[b * some]) for b in range(count)]
        return several(
            *(S.call(lib.wino_run, i, f, 7, p, u, v, m, q, some, c, h, h, o, ts, splits) for p, q in part)
        )

    wanted = {f"F({f},3) {configs[i]} splits {splits}": (i, splits) for _, i, splits in choices}
    whole = S.checked({k: stages(*a) for k, a in wanted.items()}, y, ref)
    if S.dry:
        sliced = {f"F({f},3) in {n} slices": slices(*choices[0][1:], n)} if n > 1 else {}
        return dict(list(whole.items())[:1]) | S.checked(sliced, y, ref), {}
    times = S.sweep({k: stages(*wanted[k], 2) for k in whole})
    best = first(times)
    runs = {k: whole[k] for k in list(times)[:2]}
    if n == 32 and f == 4 and c <= 128:
        runs |= S.checked({f"{best} in {b} slices": slices(*wanted[best], b) for b in (2, 4)}, y, ref)
    single = {f"F({f},3) products": times[best]}
    for k, time in S.sweep({"input": stages(*wanted[best], 1), "output": stages(*wanted[best], 4)}).items():
        single[f"F({f},3) {k}"] = time
    single[f"F({f},3) products TFLOP/s"] = 2 * e * c * o * t / times[best] / 1e6
    return runs, single


def one_kernel(S: Session, lib, x, w, y, ref):
    """The best fused run of each tile."""
    (n, c, h, _), o, best = x.shape, w.shape[0], {}
    part = S.empty(8, y.numel())
    for f, function, fits in (
        (2, lib.fused2_run, o % 64 == 0),
        (4, lib.fused4_run, o % 32 == 0 and h % 4 == 0),
    ):
        runs, u = {}, filter_tiles(w, f)
        for splits in (1, 2, 4, 8) if c % 8 == 0 and fits else ():
            if c // 8 // splits >= 1 and (n <= 8 or splits <= 2):
                runs[f"fused F({f},3) splits {splits}"] = S.call(
                    function, x, u, part, y, n, c, h, h, o, splits
                )
        runs = S.checked(runs, y, ref)
        if runs:
            name = first(S.sweep(runs))
            best[name] = runs[name]
    return best


def plain(S: Session, sconv, x, w, ref):
    """sconv.cu, the product without Winograd."""
    (n, c, h, _), o = x.shape, w.shape[0]
    xl, wl = x.permute(0, 2, 3, 1).contiguous(), w.permute(2, 3, 1, 0).contiguous()
    yl, part, runs = S.empty(n, h, h, o), S.empty(32 if n == 1 else 2, n * h * h * o), {}
    for i, name in enumerate(names(sconv, "sconv")):
        for splits in (4, 8, 16, 32) if n == 1 else (1, 2):
            runs[f"{name} splits {splits}"] = S.call(
                sconv.sconv_run, i, xl, wl, part, yl, n, h, h, c, o, 1, splits
            )
    runs = S.checked(runs, yl, ref.permute(0, 2, 3, 1))
    best = first(S.sweep(runs))
    return {best: runs[best]}


def layer(S: Session, name, lib, sconv, n, c, o, h):
    """One layer."""
    x, w = S.rand(n, c, h, h), S.rand(o, c, 3, 3) / (3 * c**0.5)
    ref, y = S.exact(x, w, padding=1), S.empty(n, o, h, h)
    runs, single = {}, {}
    for f in (2, 4):
        more, parts = three_kernels(S, lib, f, x, w, y, ref)
        runs, single = runs | more, single | parts
    runs |= one_kernel(S, lib, x, w, y, ref)
    if sconv is not None:
        runs |= plain(S, sconv, x, w, ref)
    S.report(runs, S.torch_conv(x, w, padding=1), parts_us=single, errors=S.errors)


def winograd(S: Session) -> None:
    """All layers."""
    lib, sconv = S.lib("winograd"), None if S.small else S.lib("sconv")
    for n, c, o, h in SMALL if S.small else [(n, *shape) for shape in LAYERS for n in (32, 1)]:
        S.case(f"winograd {c}->{o} {h} batch {n}", layer, lib, sconv, n, c, o, h)
