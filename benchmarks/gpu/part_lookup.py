"""Lookup convolutions: dictionary product + gather, both in one kernel, pruned filters, coefficients as code."""

from __future__ import annotations

import ctypes

import lookup_plan
import numpy as np
import torch
from session import BUILD, Session, first, names, several

ALEXNET = [(3, 64, 11, 4, 2, 224), (64, 192, 5, 1, 2, 27), (192, 384, 3, 1, 1, 13), (384, 256, 3, 1, 1, 13)]
ALEXNET += [(256, 256, 3, 1, 1, 13)]
FAST = (3, 30, 30, 30, 30), (0.083, 0.034, 0.008, 0.013, 0.027)
ACCURATE = (3, 500, 500, 500, 30), (0.129, 0.040, 0.029, 0.034, 0.071)
RESNET = [(c, c, 3, 1, 1, h) for c, h in ((64, 56), (128, 28), (256, 14), (512, 7))]
STRIDED = [(64, 128, 3, 2, 1, 56), (256, 512, 3, 2, 1, 14)]
# net, (c, o, kernel, stride, pad, h), size of the dictionary (0: none), density of the coefficients
CASES = [("resnet", shape, 64, 0.05) for shape in RESNET]
CASES += [("fast", *case) for case in zip(ALEXNET, *FAST, strict=True)]
CASES += [("pruned", shape, 0, 0.05) for shape in RESNET]
CASES += [("resnet", shape, 64, d) for d in (0.03, 0.10) for shape in RESNET]
CASES += [("accurate", *case) for case in zip(ALEXNET, *ACCURATE, strict=True)]
CASES += [("resnet", shape, 64, 0.05) for shape in STRIDED]
SMALL = [
    ("dry", (8, 12, 3, 1, 1, 9), 7, 0.3, 3),
    ("dry", (5, 9, 3, 2, 1, 11), 20, 0.2, 2),
    ("dry", (3, 10, 11, 4, 2, 31), 3, 0.1, 2),
    ("dry", (4, 33, 5, 1, 2, 6), 18, 0.1, 1),
    ("dry pruned", (6, 8, 3, 1, 1, 7), 0, 0.2, 4),
    ("dry", (4, 8, 3, 1, 0, 8), 16, 0.02, 2),
]


def dictionary(S: Session, lib, x, D):
    """The products D x that are right, with cuBLAS's; their output."""
    (n, c, h, _), k = x.shape, D.shape[0]
    kp = -(-k // 16) * 16
    dt = torch.zeros(c, kp, device=S.device)
    dt[:, :k] = D.T
    ref, out = torch.einsum("kc,nchw->nkhw", D.double(), x.double()), S.empty(n, k, h, h)
    kernels = enumerate(names(lib, "product"))
    runs = {q: S.call(lib.product_run, i, dt, x, out, n, c, k, kp, h * h) for i, q in kernels}
    return S.checked(runs, out, ref), ref, out, dt


def gathers(S: Session, lib, layer, coefficients, k, n, tensors, y, ref, pruned):
    """The kernels with the best predictions: two kernels, one kernel, predictions."""
    shapes, kernels, nnz = [], names(lib, "lookup"), int(np.count_nonzero(coefficients))
    for i in range(len(kernels)):
        out = (ctypes.c_int * 4)()
        lib.lookup_shape(i, out)
        shapes.append(tuple(out))
    choices = []
    for i, cfg in enumerate(shapes):
        for planned in () if cfg[3] and pruned else lookup_plan.plans(cfg, layer, n, k, S.dry):
            choices.append((lookup_plan.predicted(cfg, planned, nnz, layer[0]), i, planned))
    choices.sort(key=lambda v: v[0])
    few = 99999 if S.dry else 9
    picked = [v for v in choices if not shapes[v[1]][3]][:few]
    picked += [v for v in choices if shapes[v[1]][3]][: few // 2 + 1]
    if S.dry:
        picked = picked[:: max(1, len(picked) // 60)]
    one, two, predictions = {}, {}, {}
    for guess, i, (fields, size) in picked:
        data = [torch.from_numpy(v).to(S.device) for v in lookup_plan.lists(fields, coefficients)]
        pointers = zip(lookup_plan.POINTERS, [*tensors, *data, y], strict=True)
        arg = lookup_plan.Look(**{q: 0 if v is None else v.data_ptr() for q, v in pointers}, **fields)
        launch = S.call(lib.lookup_run, i, ctypes.byref(arg), size)
        name = f"{kernels[i]} wp {fields['wp']} rows {fields['tr']} kb {fields['kb']} bytes {size}"

        def run(launch=launch, keep=(arg, data)):
            launch()

        if S.right(name, run, y, ref):
            predictions[name] = guess
            (one if shapes[i][3] else two)[name] = run
    return two, one, predictions


def layer_of(S: Session, name, lib, layer, k, density, n):
    """One layer at one density."""
    c, o, kernel, s, pad, h = layer
    pruned, k = k == 0, k or c
    rng, shape = np.random.default_rng(7), (o, k, kernel, kernel)
    coefficients = rng.standard_normal(shape, np.float32) * (rng.random(shape, np.float32) < density)
    coefficients = coefficients.astype(np.float32)
    x, C = S.rand(n, c, h, h), torch.from_numpy(coefficients).to(S.device)
    product, sref, sv, dt, full = {}, x.double(), x, None, C.double()
    if not pruned:
        D = S.rand(k, c) / c**0.5
        product, sref, sv, dt = dictionary(S, lib, x, D)
        product[first(product)]()
        full = torch.einsum("okrs,kc->ocrs", C.double(), D.double())
    ref, W = S.exact(sref, C, stride=s, padding=pad), full.float().contiguous()
    y = S.empty(*ref.shape)
    two, one, guesses = gathers(S, lib, layer, coefficients, k, n, (sv, x, dt), y, ref, pruned)
    cublas = {}
    if not pruned:
        out = torch.empty(n, k, h * h, device=S.device)
        cublas["cuBLAS"] = lambda: torch.matmul(D, x.view(n, c, h * h), out=out)
    pt, tt, ot = S.sweep({**product, **cublas}), S.sweep(two), S.sweep(one)
    parts = {"product": dict(list(pt.items())[:3]) | {v: t for v, t in pt.items() if v == "cuBLAS"}}
    parts |= {"gather": dict(list(tt.items())[:4]), "one": dict(list(ot.items())[:3]), "predicted": guesses}
    runs, own = {}, next((v for v in pt if v != "cuBLAS"), None)
    if tt:
        g = first(tt)
        runs = (
            {f"gather: {g}": two[g]}
            if pruned
            else {f"two kernels: {own} + {g}": several(product[own], two[g])}
        )
    if ot:
        runs["one kernel: " + first(ot)] = one[first(ot)]
    nnz, pixels = int(np.count_nonzero(coefficients)), n * ref.shape[2] * ref.shape[3]
    more = {"nnz_per_output": nnz / o, "gather_gfma": nnz * pixels / 1e9}
    more["product_gfma"] = 0 if pruned else k * c * n * h * h / 1e9
    S.report(runs, S.torch_conv(x, W, stride=s, padding=pad), parts_us=parts, **more)


def lookup(S: Session) -> None:
    """All layers."""
    lib = S.lib("lookup")
    for net, layer, k, density, n in SMALL if S.small else [(*case, n) for case in CASES for n in (32, 1)]:
        c, o, kernel, s, _, h = layer
        name = f"lookup {net} {c}->{o} {kernel}x{kernel}/{s} {h} k {k or c} density {density} batch {n}"
        S.case(name, layer_of, lib, layer, k, density, n)


def code_layer(S: Session, name, lib, look, index, w, shape, n):
    """Coefficients as constants of the code, behind a dictionary over as many channels as there are filters."""
    o, k, _, pad, h = map(int, shape)
    c = max(o, k)
    C, D, x = torch.from_numpy(w).to(S.device), S.rand(k, c) / c**0.5, S.rand(n, c, h, h)
    product, sref, sv, _ = dictionary(S, look, x, D)
    product[first(product)]()
    ref = S.exact(sref, C, padding=pad)
    W = torch.einsum("okrs,kc->ocrs", C.double(), D.double()).float().contiguous()
    y = S.empty(*ref.shape)
    runs = S.checked({"gather, constants in code": S.call(lib.code_run, index, sv, y, n)}, y, ref)
    gather = first(runs)
    pt = S.sweep(product)
    both = {"product + gather, constants in code": several(product[first(pt)], runs[gather])}
    more = {"product_us": pt, "gather_gfma": int((C != 0).sum()) * n * h * h / 1e9}
    S.report(both, S.torch_conv(x, W, padding=pad), runs, **more)


def code(S: Session) -> None:
    """The layers that gen_code.py wrote."""
    lib, look = S.lib("lookup_code"), S.lib("lookup")
    file = np.load((BUILD / "emu" if S.small else BUILD) / "lookup_code.npz")
    for index in range(sum(k.startswith("w") for k in file.files)):
        for n in (3, 1) if S.small else (32, 1):
            name, shape = f"code {file[f'name{index}']} batch {n}", file[f"layer{index}"]
            S.case(name, code_layer, lib, look, index, file[f"w{index}"], shape, n)
