"""The layers whose search is judged: eight of different operators, and eight others of the same operators.

They are layers of known networks, and tuning these has found faster knobs than the defaults for most of them
(``results/tune.json``, ``results/knobs.json``): of other layers the default is as good as any, and a search has nothing
to find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_fastconv.topi.conv2d import Conv2dParams
    from tvm_fastconv.topi.problem import Problem

Layer = tuple[str, "Problem"]
"""Operator and problem."""


def first_layers() -> dict[str, Layer]:
    """Name → layer: of MobileNetV2, SqueezeNet, RegNet, HRNet, Bi-Real-Net, AlexNet and MobileOne."""
    return _named(
        plane("conv2d", 224, 3, 32, stride=2, layout="NCHW"),
        plane("conv2d", 55, 128, 16, kernel=1),
        plane("winograd_conv2d", 14, 64, 64, m=4),
        plane("depthwise_conv2d", 56, 144, 144, groups=144),
        plane("grouped_conv2d", 56, 56, 56, stride=2, groups=7),
        _bits(28, 128, 128),
        plane("lookup_conv2d", 13, 200, 384, nonzeros=6912),
        _dense(1024, 1000),
    )


def second_layers() -> dict[str, Layer]:
    """Name → layer: the same operators, and no layer of `first_layers`."""
    return _named(
        plane("conv2d", 28, 128, 256, stride=2),
        plane("conv2d", 28, 192, 32, kernel=1),
        plane("winograd_conv2d", 27, 32, 128, m=4),
        plane("depthwise_conv2d", 28, 192, 192, stride=2, groups=192),
        plane("grouped_conv2d", 112, 24, 24, stride=2, groups=3),
        _bits(56, 64, 128, stride=2),
        plane("lookup_conv2d", 27, 100, 192, kernel=5, nonzeros=14400),
        _dense(512, 1000),
    )


def _named(*layers: tuple[str, str, Problem]) -> dict[str, Layer]:
    return {f"{op} {what}": (op, problem) for op, what, problem in layers}


def plane(
    op: str,
    size: int,
    channels: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    layout: str = "NHWC",
    **more: int,
) -> tuple[str, str, Problem]:
    """Operator, a square layer in a few words, and its problem."""
    from tvm_fastconv.topi.operators import operator_of

    conv = _conv(kernel, stride, outputs, groups=groups, data_layout=layout)
    kind: Any = operator_of("llvm", op).problem
    problem = kind(height=size, width=size, channels=channels, conv=conv, **more)
    return op, _what(kernel, stride, channels, outputs, size), problem


def _bits(size: int, channels: int, outputs: int, stride: int = 1) -> tuple[str, str, Problem]:
    from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem

    layer = BitserialParams(conv=_conv(3, stride, outputs), channels=channels)
    problem = BitserialProblem(height=size, width=size, layer=layer)
    return "bitserial_conv2d", _what(3, stride, channels, outputs, size), problem


def _dense(inner: int, columns: int) -> tuple[str, str, Problem]:
    from tvm_fastconv.topi.dense import MatmulProblem

    return "dense", f"{inner} to {columns}", MatmulProblem(batch=1, rows=1, inner=inner, columns=columns)


def _conv(kernel: int, stride: int, outputs: int, **more: Any) -> Conv2dParams:
    """Padded by half of the kernel."""
    from tvm_fastconv.topi.conv2d import Conv2dParams

    around = (kernel // 2,) * 4
    return Conv2dParams(
        kernel=(kernel, kernel), out_channels=outputs, stride=(stride, stride), padding=around, **more
    )


def _what(kernel: int, stride: int, channels: int, outputs: int, size: int) -> str:
    return f"{kernel}x{kernel}{f'/{stride}' if stride > 1 else ''}, {channels} to {outputs} at {size}"
