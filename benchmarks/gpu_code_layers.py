"""Layers whose machine code for GPUs is looked into: name to operator and problem."""

from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
from tvm_fastconv.topi.lookup_conv2d import LookupProblem
from tvm_fastconv.topi.pointwise_planar import PointwiseProblem
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.winograd_conv2d import WinogradProblem
from tvm_fastconv.topi.xnor_gemm_gpu import PackedXnorGemmProblem

RESNET = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels and side of the 3×3 convolutions of a ResNet-18."""


def _conv(channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Conv2dParams:
    around = (kernel // 2,) * 4
    return Conv2dParams(
        kernel=(kernel, kernel), out_channels=channels, stride=(stride, stride), padding=around, groups=groups
    )


def _resnet(batch: int, channels: int, side: int) -> dict[str, tuple[str, Problem]]:
    conv, name = _conv(channels), f"{channels} {side}x{side}, batch {batch}"
    plane = {"batch": batch, "height": side, "width": side}
    bits = BitserialParams(conv=conv, channels=channels)
    return {
        f"conv2d {name}": ("conv2d", ConvProblem(**plane, channels=channels, conv=conv)),
        f"winograd_conv2d {name}": (
            "winograd_conv2d",
            WinogradProblem(**plane, channels=channels, conv=conv, m=4),
        ),
        f"bitserial_conv2d {name}": ("bitserial_conv2d", BitserialProblem(**plane, layer=bits)),
    }


LAYERS: dict[str, tuple[str, Problem]] = {
    **{
        name: layer
        for batch in (1, 32)
        for shape in RESNET
        for name, layer in _resnet(batch, *shape).items()
    },
    **{
        f"tf32_conv2d {channels} {side}x{side}, batch {batch}": (
            "tf32_conv2d",
            ConvProblem(batch=batch, height=side, width=side, channels=channels, conv=_conv(channels)),
        )
        for batch, channels, side in ((1, 64, 56), (32, 64, 56), (32, 512, 7))
    },
    "conv2d 7x7 of an image, batch 32": (
        "conv2d", ConvProblem(batch=32, height=224, width=224, channels=3, conv=_conv(64, 7, 2)),
    ),
    "conv2d 1x1 512 14x14, batch 32": (
        "conv2d", ConvProblem(batch=32, height=14, width=14, channels=512, conv=_conv(512, 1)),
    ),
    "depthwise_conv2d 128 56x56, batch 32": (
        "depthwise_conv2d",
        DepthwiseProblem(batch=32, height=56, width=56, channels=128, conv=_conv(128, groups=128)),
    ),
    "depthwise_conv2d 512 14x14, batch 1": (
        "depthwise_conv2d", DepthwiseProblem(height=14, width=14, channels=512, conv=_conv(512, groups=512)),
    ),
    "dense 9216 to 4096, batch 32": ("dense", MatmulProblem(batch=1, rows=32, inner=9216, columns=4096)),
    "lookup_conv2d 500 to 384 13x13, batch 32": (
        "lookup_conv2d",
        LookupProblem(batch=32, height=13, width=13, channels=500, conv=_conv(384), nonzeros=50112),
    ),
    "pointwise_planar 192 to 500 13x13, batch 32": (
        "pointwise_planar",
        PointwiseProblem(batch=32, height=13, width=13, channels=192, atoms=500),
    ),
    "xnor_gemm_packed 4096": ("xnor_gemm_packed", PackedXnorGemmProblem(inner=4096, columns=4096)),
}  # fmt: skip
"""The 3×3 layers of a ResNet-18 in three ways, and one or two of each other kind, as `bench_gpu` has them."""
