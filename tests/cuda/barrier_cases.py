"""Every kernel that has barriers, once in each form in which they stand: small problems that need all of them."""

from __future__ import annotations

from tvm_fastconv.topi.chain import ChainProblem
from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
from tvm_fastconv.topi.fixed_stencil_conv2d import StencilProblem
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.schedules.cuda.bitserial import POPCOUNTS, TENSOR_CORES, BitserialGpuKnobs
from tvm_fastconv.topi.schedules.cuda.chain_knobs import GpuChainKnobs
from tvm_fastconv.topi.schedules.cuda.gemm_knobs import GemmKnobs
from tvm_fastconv.topi.schedules.cuda.lookup import GpuLookupKnobs
from tvm_fastconv.topi.schedules.cuda.lookup_dense import GpuLookupDenseKnobs
from tvm_fastconv.topi.schedules.cuda.pointwise_planar import GpuPointwiseKnobs
from tvm_fastconv.topi.schedules.cuda.tf32_knobs import Tf32Knobs
from tvm_fastconv.topi.schedules.cuda.winograd import WinogradGemmKnobs
from tvm_fastconv.topi.schedules.cuda.words import DepthwiseWordKnobs
from tvm_fastconv.topi.schedules.cuda.xnor_gemm import MANY_BLOCKS, THREAD_TILES, TILES, XnorGemmGpuKnobs
from tvm_fastconv.topi.xnor_gemm import XnorGemmProblem
from tvm_fastconv.topi.xnor_gemm_gpu import PackedXnorGemmProblem

from ..topi.operator_cases import CASES, JOINED, KERNELS, MULTIPLIED, SQUARE, conv

Variant = tuple[str, Problem, KnobSet]
"""Name of the operator, what is asked of it, and its knobs."""

BLURRED = StencilProblem(channels=16, **SQUARE, conv=conv(80, groups=16), kernels=KERNELS)
DEPTHWISE = DepthwiseProblem(channels=16, **SQUARE, conv=conv(16, groups=16))
POINTWISE = ConvProblem(channels=16, **SQUARE, conv=conv(40, 1))
PLANE = ConvProblem(height=6, width=6, channels=24, conv=conv(40))
THREE_LINES = {"inner": 2500, "columns": 50}


def _gemm(slices: int, tile_k: int = 8) -> GemmKnobs:
    return GemmKnobs(tile_m=32, tile_o=32, tile_k=tile_k, thread_m=4, thread_o=4, slices=slices)


def _winograd(tile_k: int) -> WinogradGemmKnobs:
    return WinogradGemmKnobs(tile_m=32, tile_o=32, tile_k=tile_k, thread_m=4, thread_o=4, slices=1)


def _tf32(slices: int) -> Tf32Knobs:
    return Tf32Knobs(tile_m=32, tile_o=32, tile_k=16, part_m=16, part_o=16, stages=3, slices=slices)


def _bits(unit: int) -> BitserialGpuKnobs:
    return BitserialGpuKnobs(unit=unit, panel=32, rows=1, warps=4)


def _lookup(block: int, listed: int) -> GpuLookupKnobs:
    return GpuLookupKnobs(pixels=4, filters=2, warps=8, beside=2, block=block, columns=1, listed=listed)


def _planar(slices: int) -> GpuPointwiseKnobs:
    return GpuPointwiseKnobs(atoms=32, pixels=64, depth=4, thread_atoms=4, thread_pixels=4, slices=slices)


def _signs(
    unit: int, tile: tuple[int, int, int, int], stages: int, blocks: int = MANY_BLOCKS
) -> XnorGemmGpuKnobs:
    m, n, part_m, part_n = tile
    return XnorGemmGpuKnobs(
        unit=unit, tile_m=m, tile_n=n, part_m=part_m, part_n=part_n, stages=stages, blocks=blocks
    )


def _chain(slice_c: int) -> GpuChainKnobs:
    return GpuChainKnobs(
        thread_h=4, thread_o=4, groups_h=2, tile_w=16, tile_o=32, slice_c=slice_c, run=2 if slice_c > 8 else 1
    )


VARIANTS: dict[str, Variant] = {
    "conv2d": ("conv2d", PLANE, _gemm(1)),
    "conv2d, slices": ("conv2d", PLANE, _gemm(9)),
    "conv2d, slices of one step": ("conv2d", PLANE, _gemm(27)),
    "dense": (*CASES["dense"], _gemm(1)),
    "dense, slices of one step": (*CASES["dense"], _gemm(7)),
    "batch_matmul": (*CASES["batch_matmul"], _gemm(1)),
    "batch_matmul, slices of one step": (*CASES["batch_matmul"], _gemm(7)),
    "winograd_conv2d": (*CASES["winograd_conv2d"], _winograd(8)),
    "winograd_conv2d, one step": (*CASES["winograd_conv2d, strided"], _winograd(16)),
    "tf32_conv2d": ("tf32_conv2d", PLANE, _tf32(1)),
    "tf32_conv2d, slices": ("tf32_conv2d", PLANE, _tf32(3)),
    "lookup_conv2d": (*CASES["lookup_conv2d"], _lookup(24, 100)),
    "lookup_conv2d, chunks": (*CASES["lookup_conv2d"], _lookup(8, 100)),
    "lookup_conv2d, chunks, lists in memory": (*CASES["lookup_conv2d"], _lookup(8, 1)),
    "lookup_dense": (*CASES["lookup_dense"], GpuLookupDenseKnobs(images=2, entries=16, pairs=1, warps=2)),
    "pointwise_planar": (*CASES["pointwise_planar"], _planar(1)),
    "pointwise_planar, slices": (*CASES["pointwise_planar"], _planar(2)),
    "bitserial_conv2d, tensor cores": (*CASES["bitserial_conv2d"], _bits(TENSOR_CORES)),
    "bitserial_conv2d, popcounts": (*CASES["bitserial_conv2d"], _bits(POPCOUNTS)),
    "bitserial_conv2d, tensor cores, packed": (*CASES["bitserial_conv2d, packed"], _bits(TENSOR_CORES)),
    "bitserial_conv2d, popcounts, packed": (*CASES["bitserial_conv2d, packed"], _bits(POPCOUNTS)),
    "bitserial_depthwise_conv2d": (*CASES["bitserial_depthwise_conv2d"], DepthwiseWordKnobs(threads=64)),
    "xnor_gemm, tensor cores": (
        "xnor_gemm", XnorGemmProblem(**THREE_LINES), _signs(TENSOR_CORES, TILES[-1], stages=2),
    ),
    "xnor_gemm, popcounts": (
        "xnor_gemm", XnorGemmProblem(**THREE_LINES), _signs(POPCOUNTS, THREAD_TILES[-1], stages=2),
    ),
    "xnor_gemm_packed, tensor cores, tile after tile": (
        "xnor_gemm_packed", PackedXnorGemmProblem(**THREE_LINES), _signs(TENSOR_CORES, TILES[-1], 3, blocks=1),
    ),
    "xnor_gemm_packed, popcounts, tile after tile": (
        "xnor_gemm_packed", PackedXnorGemmProblem(inner=2500, columns=70),
        _signs(POPCOUNTS, THREAD_TILES[-1], 3, blocks=1),
    ),
    "chain, depthwise": ("chain", ChainProblem(stages=(DEPTHWISE, POINTWISE)), _chain(8)),
    "chain, depthwise at once": ("chain", ChainProblem(stages=(DEPTHWISE, POINTWISE)), _chain(16)),
    "chain, stencils": ("chain", ChainProblem(stages=(BLURRED, JOINED)), _chain(8)),
    "chain, stencils at once": ("chain", ChainProblem(stages=(BLURRED, JOINED)), _chain(16)),
    "chain, multiplier": ("chain", ChainProblem(stages=(MULTIPLIED, JOINED)), _chain(8)),
}  # fmt: skip
