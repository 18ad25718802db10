"""Calls of a compiled file's entry function for a GPU: one CUDA graph, on memory of the model's own.

Inputs are copied to where the graph reads them, and outputs from where it writes them, on the caller's stream.
"""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..artifact.manifest import Manifest
from ..errors import ArtifactError
from ..report import ITEM_BYTES, TensorSpec
from . import cudart
from .arrays import aligned_empty, bind_inputs, is_on_gpu, is_torch
from .device import CUDA
from .gpu import TURNS, first_line
from .machines import WEIGHT_FUNCTION
from .tvm_runtime import Library

RUN_ON_GPU_FUNCTION = "fastconv_run_on_gpu"
"""Exported by files for a GPU that need no virtual machine: addresses of inputs, of outputs, of the weights and of a
workspace; launches everything on the stream of the thread."""

ALIGNMENT = 256
"""Bytes; each tensor starts at a multiple of it."""


class GpuEntry:
    """The entry function of a library, captured; threads that call it take turns.

    Raises
    ------
    ArtifactError
        The GPU has too little memory, or refuses the code.
    """

    def __init__(self, library: Library, path: str, manifest: Manifest) -> None:
        self._library, self._path = library, path
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        weights = manifest.weights
        weight_bytes = max((weight.offset + weight.nbytes for weight in weights), default=0)
        ports = [_bytes(spec) for spec in (*manifest.inputs, *manifest.outputs)]
        # Inputs, outputs, weights, workspace.
        sizes = [
            -(-size // ALIGNMENT) * ALIGNMENT for size in (*ports, weight_bytes, manifest.workspace_bytes)
        ]
        *offsets, total = accumulate(sizes, initial=0)
        try:
            run = library.function(RUN_ON_GPU_FUNCTION)
        except AttributeError:
            raise ArtifactError(f"{path} cannot run: it has no entry function") from None
        with TURNS.on(0):
            memory = cudart.new("cudaMalloc", max(total, 1))
        graphs: list[int] = []
        self._free = weakref.finalize(self, TURNS.when_possible, functools.partial(_free, memory, graphs))
        self._free.atexit = False  # the process gives all back
        self._addresses = [memory + offset for offset in offsets]
        if weights:
            source = library.function(WEIGHT_FUNCTION)(0).data_ptr()
            with TURNS.on(0):
                cudart.copy(self._addresses[len(ports)], source, weight_bytes, 0)
        graphs.append(self._captured(run))
        self._graph = graphs[0]

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Run the model; as `CompiledModel.__call__`, with all outputs in a tuple."""
        on_gpu = any(map(is_on_gpu, inputs))
        arguments = bind_inputs(inputs, self._inputs, CUDA, upload=False)
        stream = sys.modules["torch"].cuda.current_stream(0).cuda_stream if on_gpu else 0
        with TURNS.on(stream):
            self._launch(arguments, stream)
            if on_gpu:
                if not all(map(is_on_gpu, inputs)):  # pinned memory is read while its owner may change it
                    cudart.call("cudaStreamSynchronize", stream)
                return tuple(self._on_gpu(i, stream) for i in range(len(self._outputs)))
            arrays = [self._on_host(i, stream) for i in range(len(self._outputs))]
            cudart.call("cudaStreamSynchronize", stream)
        as_torch = any(map(is_torch, inputs))
        return tuple(sys.modules["torch"].from_numpy(array) if as_torch else array for array in arrays)

    def on(self, inputs: Sequence[Any]) -> Callable[[], None]:
        """A function that runs the model on ``inputs``, which are copied to the GPU now, and waits for the outputs."""
        with TURNS.on(0):
            arguments = bind_inputs(inputs, self._inputs, CUDA)
            cudart.call("cudaDeviceSynchronize")  # also for what other streams still compute of them

        def run() -> None:
            with TURNS.on(0):
                self._launch(arguments, 0)
                cudart.call("cudaStreamSynchronize", 0)

        return run

    def _captured(self, run: Callable[..., None]) -> int:
        """A graph of everything; what the first run loads and asks for is there before."""
        with (
            cudart.owned(
                "cudaStreamDestroy", cudart.new("cudaStreamCreateWithFlags", cudart.OWN_STREAM)
            ) as stream,
            TURNS.on(stream),
        ):
            try:
                run(*self._addresses)
                cudart.call("cudaStreamSynchronize", stream)
                with cudart.capturing(stream) as graphs:
                    run(*self._addresses)
            except RuntimeError as error:
                raise ArtifactError(f"{self._path} cannot run: {first_line(error)}") from error
            finally:
                TURNS.back_from(stream)
        return graphs[0]

    def _launch(self, arguments: Sequence[Any], stream: int) -> None:
        for argument, spec, address in zip(arguments, self._inputs, self._addresses, strict=False):
            cudart.copy(address, argument.data_ptr(), _bytes(spec), stream)
        cudart.call("cudaGraphLaunch", self._graph, stream)

    def _on_host(self, place: int, stream: int) -> np.ndarray:
        spec = self._outputs[place]
        array = aligned_empty(tuple(map(int, spec.shape)), np.dtype(spec.dtype))
        cudart.copy(array.ctypes.data, self._addresses[len(self._inputs) + place], _bytes(spec), stream)
        return array

    def _on_gpu(self, place: int, stream: int) -> Any:
        """A tensor of PyTorch's, which may still be being computed."""
        torch, spec = sys.modules["torch"], self._outputs[place]
        tensor = torch.empty(tuple(map(int, spec.shape)), dtype=getattr(torch, spec.dtype), device="cuda:0")
        cudart.copy(tensor.data_ptr(), self._addresses[len(self._inputs) + place], _bytes(spec), stream)
        return tensor


def _bytes(spec: TensorSpec) -> int:
    elements = 1
    for extent in spec.shape:
        elements *= int(extent)
    return elements * ITEM_BYTES[spec.dtype]


def _free(memory: int, graphs: Sequence[int]) -> None:
    """Give a model's memory back, once nothing runs that needs it."""
    for name, handle in (*(("cudaGraphExecDestroy", graph) for graph in graphs), ("cudaFree", memory)):
        with contextlib.suppress(ArtifactError):  # the GPU is lost, or this is a process that was forked
            cudart.call(name, handle)
