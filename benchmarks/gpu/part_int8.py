"""int8 3x3 on mma.sync, int8 and float out, against cuDNN in float32 and (context) in float16."""

from __future__ import annotations

import torch
from session import Session, names

LAYERS = [
    *[(64, 64, 56, 1), (128, 128, 28, 1), (256, 256, 14, 1), (512, 512, 7, 1)],
    *[(64, 128, 56, 2), (128, 256, 28, 2), (256, 512, 14, 2)],
]
SMALL = [(2, 16, 48, 6, 1), (1, 32, 64, 9, 2), (3, 64, 80, 5, 1), (1, 128, 16, 4, 1)]


def rounded(S: Session, name, run, y, real):
    """Whether the int8 output is right: sums are exact, ties of float32 may round otherwise."""
    try:
        y.fill_(-77)
        run()
        if not S.dry:
            torch.cuda.synchronize()
        off = (y.double() - real.round().clamp(-128, 127)).abs()
        if float(off.max()) > 1 or float((off > 0).double().mean()) > 1e-3:
            raise ValueError(f"int8 off by {float(off.max())}, {int((off > 0).sum())} differ")
        return True
    except Exception:
        S.fail(name)
        return False


def layer(S: Session, name, lib, n, c, o, h, s):
    """One layer."""
    shapes = ((n, c, h, h), (o, c, 3, 3))
    x, w = (torch.randint(-127, 128, shape, device=S.device, dtype=torch.int8) for shape in shapes)
    scale, bias = torch.rand(o, device=S.device) / (40 * c**0.5) / 127, S.rand(o) * 20
    exact = S.exact(x, w, padding=1, stride=s)  # integers below 2^53
    real = torch.relu(exact * scale.double()[:, None, None] + bias.double()[:, None, None])
    real = real.permute(0, 2, 3, 1).contiguous()
    xl, wl = x.permute(0, 2, 3, 1).contiguous(), w.permute(0, 2, 3, 1).contiguous()
    m = n * real.shape[1] * real.shape[2]
    yf, y8 = S.empty(*real.shape), torch.zeros(real.shape, dtype=torch.int8, device=S.device)
    part = torch.zeros(16 if n == 1 else 2, m * o, dtype=torch.int32, device=S.device)

    def launch(i, splits, floats, y):
        return S.call(lib.iconv_run, i, floats, xl, wl, scale, bias, part, y, n, h, h, c, o, s, splits)

    runs, floats = {}, {}
    for i, config in enumerate(names(lib, "iconv")):
        for splits in (1, 2, 4, 8, 16) if n == 1 else (1, 2):
            k, run = f"{config} splits {splits}", launch(i, splits, 0, y8)
            if splits > 1 and -(-9 * c // 128) // splits < 1:
                continue
            floats[k] = launch(i, splits, 1, yf)
            if S.right(k, floats[k], yf, real, 1e-5) and rounded(S, k, run, y8, real):
                runs[k] = run
    swept = S.sweep(runs)
    best = list(swept)[:2]
    xf, wf = x.float() / 127, w.float() / 127
    context = {best[0] + " float out": floats[best[0]]}
    if not S.dry:
        context["half NHWC"] = S.torch_conv(xf.half(), wf.half(), padding=1, stride=s)["torch NHWC"]
    rivals = S.torch_conv(xf, wf, padding=1, stride=s)
    S.report({k: runs[k] for k in best}, rivals, context, sweep_us=swept, gop=2 * 9 * c * o * m / 1e9)


def int8(S: Session) -> None:
    """All layers."""
    lib = S.lib("iconv")
    for n, c, o, h, s in SMALL if S.small else [(n, *shape) for shape in LAYERS for n in (32, 1)]:
        S.case(f"int8 {c}->{o} {h}/{s} batch {n}", layer, lib, n, c, o, h, s)
