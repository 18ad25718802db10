"""Packing, pooling and depthwise convolutions of bits on a GPU: word by word."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_fastconv.topi.bit_max_pool2d import BitPoolProblem
from tvm_fastconv.topi.bitpack import BitpackProblem
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams
from tvm_fastconv.topi.bitserial_depthwise_conv2d import BitserialDepthwiseProblem
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.topi.problem import Problem

from ....cuda.emulate import run_in_all_orders

H100 = GPUS["h100"]


def _pool(words: int, **more: object) -> BitPoolProblem:
    window = Conv2dParams(kernel=(3, 2), stride=(2, 1), padding=(1, 0, 1, 1), out_channels=1)
    return BitPoolProblem(batch=2, in_height=7, in_width=5, words=words, window=window, **more)  # type: ignore[arg-type]


def _depthwise(channels: int, kernel: int, stride: int = 1, **more: object) -> BitserialDepthwiseProblem:
    side = kernel // 2
    conv = Conv2dParams(
        kernel=(kernel, kernel), stride=(stride, stride), padding=(side,) * 4, groups=channels, out_channels=channels
    )  # fmt: skip
    layer = BitserialParams(conv=conv, channels=channels)
    return BitserialDepthwiseProblem(batch=2, height=6, width=7, layer=layer, **more)  # type: ignore[arg-type]


PROBLEMS: dict[str, tuple[str, Problem]] = {
    "thresholds": ("bitpack", BitpackProblem(batch=2, height=3, width=5, channels=64)),
    "odd channels": ("bitpack", BitpackProblem(batch=3, height=1, width=7, channels=33)),
    "flips": ("bitpack", BitpackProblem(height=3, width=5, channels=64, flips=True)),
    "flips of groups": ("bitpack", BitpackProblem(height=3, width=5, channels=80, groups=2, flips=True)),
    "digits": ("bitpack", BitpackProblem(batch=2, height=3, width=3, channels=100, digits=3)),
    "digits of groups": ("bitpack", BitpackProblem(height=3, width=3, channels=70, groups=2, digits=2)),
    "pool": ("bit_max_pool2d", _pool(3)),
    "pool of vectors, flips": ("bit_max_pool2d", _pool(4, flips=True)),
    "depthwise": ("bitserial_depthwise_conv2d", _depthwise(70, 3)),
    "depthwise, stride 2": ("bitserial_depthwise_conv2d", _depthwise(32, 3, 2)),
    "depthwise, bits": ("bitserial_depthwise_conv2d", _depthwise(96, 3, packed=True)),
    "depthwise, bits, 5x5": ("bitserial_depthwise_conv2d", _depthwise(33, 5, 2, packed=True)),
    "depthwise, one tap": ("bitserial_depthwise_conv2d", _depthwise(40, 1)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_block_equals_the_reference(name: str) -> None:
    op, problem = PROBLEMS[name]
    for knobs in list(operator_of("cuda", op).knobs.space(problem, H100))[:3:2]:
        made = build(op, problem, knobs, H100)
        got = run_in_all_orders(made.func, made.arrays, made.result_shape, made.result_dtype)
        np.testing.assert_array_equal(got, made.reference())
