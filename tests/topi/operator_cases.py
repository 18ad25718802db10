"""Problems that every operator is asked, one or more of each: odd sizes, and whatever forms it has."""

import dataclasses
import itertools
import random
from typing import Any

import numpy as np

from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.topi.bit_max_pool2d import BitPoolProblem
from tvm_fastconv.topi.bitpack import BitpackProblem
from tvm_fastconv.topi.bitpack_planar import PlanarProblem
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem
from tvm_fastconv.topi.bitserial_depthwise_conv2d import BitserialDepthwiseProblem
from tvm_fastconv.topi.borders import FewLevelParams
from tvm_fastconv.topi.chain import ChainProblem
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
from tvm_fastconv.topi.fixed_stencil_conv2d import StencilProblem
from tvm_fastconv.topi.grouped_conv2d import GroupedProblem
from tvm_fastconv.topi.int8_conv2d import Int8Problem
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.lookup_conv2d import LookupProblem
from tvm_fastconv.topi.lookup_dense import LookupDenseProblem
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.operators import Sample, operator_names, operator_of
from tvm_fastconv.topi.pointwise_planar import PointwiseProblem
from tvm_fastconv.topi.pool2d import PoolProblem
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.transpose import TransposeProblem
from tvm_fastconv.topi.winograd_conv2d import WinogradProblem
from tvm_fastconv.topi.xnor_gemm import XnorGemmProblem

from ..close import assert_close

PLANE: dict[str, Any] = {"height": 9, "width": 11}
INPUT: dict[str, Any] = {"channels": 24, **PLANE}
KERNELS = tuple(tuple(tuple(map(float, row)) for row in kernel) for kernel in STENCILS)


def conv(outputs: int, kernel: int = 3, **more: Any) -> Conv2dParams:
    """A convolution that keeps the size of the plane, unless ``more`` says otherwise."""
    around = (kernel // 2,) * 4
    return Conv2dParams(**{"kernel": (kernel, kernel), "out_channels": outputs, "padding": around} | more)


ODD = conv(17, stride=(2, 1), padding=(0, 2, 1, 3), dilation=(1, 2))
SMALL = {"kernel": 2, "stride": (2, 2), "padding": (0, 0, 0, 0)}
ONES = BitserialParams(conv=conv(40), channels=70)
BITS = {**PLANE, "layer": ONES}
ONE_EACH = {**PLANE, "layer": BitserialParams(conv=conv(40, groups=40), channels=40)}

SQUARE: dict[str, Any] = {"height": 16, "width": 16}
EXPAND = ConvProblem(channels=16, **SQUARE, conv=conv(96, 1))
MIDDLE = DepthwiseProblem(channels=96, **SQUARE, conv=conv(96, groups=96))
PROJECT = ConvProblem(channels=96, **SQUARE, conv=conv(24, 1))
BLURRED = StencilProblem(channels=16, **SQUARE, conv=conv(80, groups=16), kernels=KERNELS)
MULTIPLIED = DepthwiseProblem(channels=40, **SQUARE, conv=conv(80, groups=40), kernel_major=True)
JOINED = ConvProblem(channels=80, **SQUARE, conv=conv(24, 1))

CASES: dict[str, tuple[str, Problem]] = {
    "conv2d": ("conv2d", ConvProblem(**INPUT, conv=conv(40))),
    "conv2d, odd": ("conv2d", ConvProblem(batch=2, **INPUT, conv=ODD)),
    "conv2d, NCHW in": ("conv2d", ConvProblem(**INPUT, conv=conv(40, data_layout="NCHW"))),
    "conv2d in groups": ("conv2d", ConvProblem(**INPUT, conv=conv(64, groups=2))),
    "grouped_conv2d": ("grouped_conv2d", GroupedProblem(**INPUT, conv=conv(36, groups=4))),
    "grouped_conv2d, in chunks": ("grouped_conv2d", GroupedProblem(**PLANE, channels=64, conv=conv(64, groups=8))),
    "grouped_conv2d, NCHW in": (
        "grouped_conv2d", GroupedProblem(batch=2, **INPUT, conv=conv(36, groups=4, data_layout="NCHW")),
    ),
    "winograd_conv2d": ("winograd_conv2d", WinogradProblem(**INPUT, conv=conv(20), m=4)),
    "winograd_conv2d, 2 of 5": ("winograd_conv2d", WinogradProblem(batch=2, **INPUT, conv=conv(20, 5), m=2)),
    "winograd_conv2d, strided": (
        "winograd_conv2d", WinogradProblem(**PLANE, channels=3, conv=conv(20, 7, stride=(2, 2)), m=3),
    ),
    "tf32_conv2d": ("tf32_conv2d", ConvProblem(**INPUT, conv=conv(40))),
    "tf32_conv2d, odd": ("tf32_conv2d", ConvProblem(batch=2, **PLANE, channels=17, conv=ODD)),
    "depthwise_conv2d": ("depthwise_conv2d", DepthwiseProblem(batch=2, **INPUT, conv=conv(24, groups=24))),
    "depthwise_conv2d, multiplier": ("depthwise_conv2d", DepthwiseProblem(**INPUT, conv=conv(48, groups=24))),
    "depthwise_conv2d, kernel major": (
        "depthwise_conv2d", DepthwiseProblem(**INPUT, conv=conv(48, groups=24), kernel_major=True),
    ),
    "max_pool2d": ("max_pool2d", PoolProblem(**PLANE, out_size=(9, 11), window=conv(24), kind="max")),
    "avg_pool2d": ("avg_pool2d", PoolProblem(**PLANE, out_size=(9, 11), window=conv(24), kind="avg")),
    "avg_pool2d, padding counts": (
        "avg_pool2d",
        PoolProblem(**PLANE, out_size=(5, 6), window=conv(17, stride=(2, 2)), kind="avg", count_include_pad=True),
    ),
    "fixed_stencils": ("fixed_stencils", StencilProblem(**INPUT, conv=conv(120, groups=24), kernels=KERNELS)),
    "dense": ("dense", MatmulProblem(batch=2, rows=3, inner=50, columns=21)),
    "batch_matmul": ("batch_matmul", MatmulProblem(batch=2, rows=7, inner=50, columns=21)),
    "int8_conv2d": ("int8_conv2d", Int8Problem(**PLANE, layer=FewLevelParams(conv=conv(40), channels=24))),
    "bitserial_conv2d": ("bitserial_conv2d", BitserialProblem(**BITS)),
    "bitserial_conv2d, packed": ("bitserial_conv2d", BitserialProblem(batch=2, **BITS, packed=True)),
    "bitserial_conv2d, 2 bits, packed": (
        "bitserial_conv2d",
        BitserialProblem(**PLANE, layer=dataclasses.replace(ONES, activation_bits=2), packed=True),
    ),
    "bitserial_conv2d, ternary": (
        "bitserial_conv2d", BitserialProblem(**PLANE, layer=dataclasses.replace(ONES, bit_planes=(1, 1))),
    ),
    "bitserial_conv2d, groups": (
        "bitserial_conv2d",
        BitserialProblem(**PLANE, layer=BitserialParams(conv=conv(32, groups=2), channels=64)),
    ),
    "bitserial_depthwise_conv2d": ("bitserial_depthwise_conv2d", BitserialDepthwiseProblem(**ONE_EACH)),
    "bitserial_depthwise_conv2d, packed": (
        "bitserial_depthwise_conv2d", BitserialDepthwiseProblem(batch=2, **ONE_EACH, packed=True),
    ),
    "lookup_conv2d": ("lookup_conv2d", LookupProblem(batch=2, **INPUT, conv=conv(40), nonzeros=300)),
    "lookup_dense": ("lookup_dense", LookupDenseProblem(batch=2, inputs=300, outputs=40, nonzeros=500)),
    "pointwise_planar": ("pointwise_planar", PointwiseProblem(batch=2, atoms=30, **INPUT)),
    "transpose": ("transpose", TransposeProblem(batch=2, rows=30, columns=21)),
    "bitpack": ("bitpack", BitpackProblem(batch=2, **INPUT)),
    "bitpack, 2 digits": ("bitpack", BitpackProblem(**INPUT, digits=2)),
    "bitpack, groups and flips": ("bitpack", BitpackProblem(**INPUT, groups=2, flips=True)),
    "bitpack_planar": ("bitpack_planar", PlanarProblem(batch=2, **INPUT)),
    "bitpack_planar, flips": ("bitpack_planar", PlanarProblem(**INPUT, flips=True)),
    "bit_max_pool2d": ("bit_max_pool2d", BitPoolProblem(in_height=9, in_width=11, words=2, window=conv(64, **SMALL))),
    "bit_max_pool2d, flips": (
        "bit_max_pool2d", BitPoolProblem(batch=2, in_height=9, in_width=11, words=3, window=conv(96), flips=True),
    ),
    "xnor_gemm": ("xnor_gemm", XnorGemmProblem(inner=100, columns=50)),
    "chain, inverted bottleneck": ("chain", ChainProblem(stages=(EXPAND, MIDDLE, PROJECT))),
    "chain, stencils": ("chain", ChainProblem(stages=(BLURRED, JOINED))),
    "chain, multiplier": ("chain", ChainProblem(stages=(MULTIPLIED, JOINED))),
}  # fmt: skip
"""Name of the case → name of the operator, and the problem."""

ON_CPUS = {name: case for name, case in CASES.items() if case[0] in operator_names("llvm")}
"""Those of operators that CPUs have."""


def assert_is_reference(op: str, made: Sample, got: np.ndarray) -> None:
    """Whether ``got`` is what ``op`` was asked for: equal where it is of integers."""
    want = made.reference()
    if made.result_dtype == "float32":
        # Float32 sums of up to 864 terms in another order; Winograd's transforms multiply their rounding.
        assert_close(got, want, 2e-5 if op == "winograd_conv2d" else 2e-6)
    else:
        np.testing.assert_array_equal(got, want)


def random_knobs(op: str, problem: Problem, machine: Machine, count: int) -> list[KnobSet]:
    """``count`` of the first 3000 of the space, the same every time; all where it has fewer."""
    seen = list(itertools.islice(operator_of(machine.kind, op).knobs.space(problem, machine), 3000))
    return random.Random(0).sample(seen, min(count, len(seen)))
