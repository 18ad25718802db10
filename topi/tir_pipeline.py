"""TVM's pipeline from loops to code, with our passes in it."""

import tvm
from tvm import tirx

from .multiply_by_lane import MultiplyByLane
from .stack_buffers import StackBuffers

TIR_PIPELINE = "fastconv"
"""For ``tvm.compile(..., tir_pipeline=)``."""


def _pipeline() -> tuple[tvm.transform.Pass, object, object]:
    lower, finalize_host, finalize_device = tirx.get_tir_pipeline("default")
    return tvm.transform.Sequential([lower, StackBuffers(), MultiplyByLane()]), finalize_host, finalize_device


tirx.compilation_pipeline.register_tir_pipeline(TIR_PIPELINE, _pipeline)
