"""Depthwise 3x3, NHWC; depthwise + pointwise in two kernels and in one, against cuDNN."""

from __future__ import annotations

import torch
from session import Session, first, names, product_time, several, tile_of

DEPTHWISE = [
    *[
        (32, 112, 1),
        (64, 112, 2),
        (128, 56, 1),
        (128, 56, 2),
        (256, 28, 1),
        (256, 28, 2),
        (512, 14, 1),
        (512, 14, 2),
    ],
    *[
        (1024, 7, 1),
        (96, 112, 2),
        (144, 56, 1),
        (144, 56, 2),
        (192, 28, 1),
        (192, 28, 2),
        (384, 14, 1),
        (576, 14, 1),
    ],
    *[(576, 14, 2), (960, 7, 1)],
]
SMALL_DEPTHWISE = [(2, 8, 9, 1), (3, 4, 7, 2), (1, 12, 10, 2), (1, 20, 13, 1), (2, 4, 1, 1)]
SEPARABLE = [(512, 512, 14, 1), (512, 1024, 14, 2), (1024, 1024, 7, 1), (256, 256, 28, 1), (256, 512, 28, 2)]
SMALL_SEPARABLE = [(1, 16, 8, 5, 1), (2, 20, 36, 7, 2), (3, 32, 72, 4, 1), (1, 64, 20, 9, 1)]


def all_depths(S: Session, lib, x, w, bias, y, ref, stride):
    """Every depthwise configuration that is right; x and y NHWC, w [9][c]."""
    n, h, _, c = x.shape
    kernels = enumerate(names(lib, "depth"))
    runs = {k: S.call(lib.depth_run, i, x, w, bias, y, n, h, h, c, stride) for i, k in kernels}
    return S.checked(runs, y, ref)


def depthwise_layer(S: Session, name, lib, n, c, h, s):
    """One layer."""
    x, w = S.rand(n, c, h, h), S.rand(c, 1, 3, 3)
    ref = S.exact(x, w, padding=1, stride=s, groups=c).permute(0, 2, 3, 1).contiguous()
    xl, wl, y = x.permute(0, 2, 3, 1).contiguous(), w.reshape(c, 9).T.contiguous(), S.empty(*ref.shape)
    runs = all_depths(S, lib, xl, wl, None, y, ref, s)
    swept = S.sweep(runs)
    rivals = S.torch_conv(x, w, padding=1, stride=s, groups=c)
    S.report({k: runs[k] for k in list(swept)[:2]}, rivals, sweep_us=swept, bytes=4 * (x.numel() + y.numel()))


def depthwise(S: Session) -> None:
    """All layers."""
    lib = S.lib("depthwise")
    for n, c, h, s in SMALL_DEPTHWISE if S.small else [(n, *shape) for shape in DEPTHWISE for n in (32, 1)]:
        S.case(f"depthwise {c} {h}/{s} batch {n}", depthwise_layer, lib, n, c, h, s)


def separable_layer(S: Session, name, lib, sep, n, c, o, h, s):
    """Depthwise + bias + ReLU, pointwise + bias + ReLU."""
    relu, conv = torch.nn.functional.relu, torch.nn.functional.conv2d
    x, dw, pw = S.rand(n, c, h, h), S.rand(c, 1, 3, 3) / 3, S.rand(o, c, 1, 1) / c**0.5
    db, pb = S.rand(c), S.rand(o)
    mid = relu(S.exact(x, dw, bias=db.double(), padding=1, stride=s, groups=c))
    ref = relu(torch.einsum("oc,nchw->nhwo", pw[:, :, 0, 0].double(), mid) + pb.double()).contiguous()
    mid = mid.permute(0, 2, 3, 1).contiguous()
    xl, dl = x.permute(0, 2, 3, 1).contiguous(), dw.reshape(c, 9).T.contiguous()
    pl, m = pw.reshape(o, c).T.contiguous(), n * mid.shape[1] * mid.shape[2]
    most = 16 if n == 1 else 4
    t, y, part = S.empty(*mid.shape), S.empty(*ref.shape), S.empty(most, m * o)
    depths = all_depths(S, lib, xl, dl, db, t, mid, s)
    depths[first(depths)]()  # t for the products
    points, choices = names(lib, "point"), []
    for i, k in enumerate(points):
        for splits in (1, 2, 4, 8, 16):
            if splits <= most and (splits == 1 or c // tile_of(k)[2] // splits >= 2):
                choices.append((product_time(k.replace("pointwise ", ""), m, o, c, 1, splits), i, splits))
    products = {}
    for _, i, splits in sorted(choices)[: 99 if S.dry else 14]:
        run = S.call(lib.point_run, i, t, pl, pb, part, y, m, c, o, splits)
        products[f"{points[i]} splits {splits}"] = run
    products = S.checked(products, y, ref)
    fused = {}
    for i, k in enumerate(names(sep, "sep") if sep is not None else ()):
        fused[k] = S.call(sep.sep_run, i, xl, dl, db, pl, pb, y, n, h, c, o, s)
    fused = S.checked(fused, y, ref)
    out = torch.empty(m, o, device=S.device)
    cublas = {"cuBLAS without bias": lambda: torch.mm(t.view(m, c), pl, out=out)}
    dt, pt, ft = S.sweep(depths), S.sweep({**products, **cublas}), S.sweep(fused)
    a = first(dt)
    best = [k for k in pt if k in products][:2]
    runs = {f"two kernels: {a} + {k}": several(depths[a], products[k]) for k in best}
    runs |= {k: fused[k] for k in list(ft)[:1]}

    def chain(layout):
        xx, d2, p2 = (v.contiguous(memory_format=layout) for v in (x, dw, pw))

        def run():
            inner = torch.relu_(conv(xx, d2, db, padding=1, stride=s, groups=c))
            return torch.relu_(conv(inner, p2, pb))

        return run

    rivals = {"torch NCHW": chain(torch.contiguous_format), "torch NHWC": chain(torch.channels_last)}
    more = {"point_tflops": 2 * m * c * o / pt[best[0]] / 1e6}
    S.report(runs, rivals, depth_us=dt, point_us=pt, fused_us=ft, **more)


def separable(S: Session) -> None:
    """All layers."""
    lib, sep = S.lib("depthwise"), None if S.small else S.lib("sepconv")
    for n, c, o, h, s in (
        SMALL_SEPARABLE if S.small else [(n, *shape) for shape in SEPARABLE for n in (32, 1)]
    ):
        S.case(f"separable {c}->{o} {h}/{s} batch {n}", separable_layer, lib, sep, n, c, o, h, s)
