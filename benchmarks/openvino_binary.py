"""The rival for binary convolutions: OpenVINO's BinaryConvolution, with the time of its kernels alone.

How OpenVINO's CPU plugin wants it, found by comparing with PyTorch on ±1 data (`tests/benchmarks`):

- The sign is a FakeQuantize of two levels whose outputs are **0 and 1**, although bit 0 means −1. Then it writes
  packed bits itself. With outputs −1 and 1, as one would expect, it writes floats; a slow generic reorder packs them,
  takes −1 for a 1 as well, and the answer is wrong.
- ``pad_value = 0`` leaves padded taps out, which is zero padding of ±1 data, as in PyTorch. They cost no time.
- The first weight is the lowest bit of the first byte, and 1 means +1.
- A FakeQuantize between two convolutions becomes part of the first, which then writes packed bits.
- ``ONEDNN_MAX_CPU_ISA=AVX2`` takes vpopcntd from it, but not the 512-bit registers (its implementation stays
  ``jit_avx512_u1``): in a run limited to AVX2 it counts by table lookup twice as wide as AVX2 could.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NAME = "openvino_binary"


class BinaryNetwork:
    """Convolutions 3×3 of signs, one after the other, float32 NCHW in and out.

    Parameters
    ----------
    weights
        Of each layer, ±1, (o, c, 3, 3). Padded by 1, stride 1.
    thresholds
        What each layer's input is compared with: above it is +1, the rest −1.
    data
        Float32, (n, c, h, w); every run uses it.
    profiled
        Take times inside, for `kernels_ms`, which costs a little.
    """

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        thresholds: Sequence[float],
        data: np.ndarray,
        *,
        threads: int = 1,
        profiled: bool = False,
    ) -> None:
        from tvm_fastconv.measure.rivals import openvino_model_request

        model = _model(weights, thresholds, data.shape)
        self._request = openvino_model_request(model, [data], threads, PERF_COUNT=profiled)

    def __call__(self) -> np.ndarray:
        """One inference; the result lives until the next."""
        self._request.infer(share_outputs=True)
        return self._request.get_output_tensor(0).data

    def kernels_ms(self, repeat: int = 1) -> list[float]:
        """Milliseconds of each binary convolution alone, in order, of the run in which they took least together."""
        return min((self._kernels() for _ in range(repeat)), key=sum)

    def _kernels(self) -> list[float]:
        self._request.infer(share_outputs=True)
        return [node.real_time.total_seconds() * 1e3 for node in self._convolutions()]

    def implementations(self) -> list[str]:
        """What runs each binary convolution, for example ``jit_avx512_u1``; ``ref_...`` is the slow one."""
        self._request.infer(share_outputs=True)
        return [node.exec_type for node in self._convolutions()]

    def _convolutions(self) -> list[Any]:
        return [node for node in self._request.profiling_info if node.node_type == "BinaryConvolution"]


def _model(weights: Sequence[np.ndarray], thresholds: Sequence[float], shape: tuple[int, ...]) -> Any:
    import openvino as ov
    import openvino.opset1 as ops

    parameter = value = ops.parameter(list(shape), np.float32)
    for weight, threshold in zip(weights, thresholds, strict=True):
        # A constant for each input: the plugin fuses this into the convolution before it only if none is shared.
        limits = [_scalar(number) for number in (threshold, threshold, 0, 1)]
        bits = ops.fake_quantize(value, *limits, levels=2)
        ones, filters = [1, 1], _bit_constant(weight > 0)
        value = ops.binary_convolution(bits, filters, ones, ones, ones, ones, "xnor-popcount", pad_value=0.0)
    return ov.Model([value], [parameter])


def _scalar(number: float) -> Any:
    import openvino.opset1 as ops

    return ops.constant(np.full((1, 1, 1, 1), number, np.float32))


def _bit_constant(bits: np.ndarray) -> Any:
    import openvino as ov

    tensor = ov.Tensor(
        ov.Type.u1, ov.Shape(bits.shape)
    )  # owns its memory: an array's would be freed too early
    tensor.data[:] = np.packbits(bits.reshape(-1), bitorder="little")
    return ov.op.Constant(tensor)
