"""Other engines on the same network: each optional, checked against PyTorch eager before anyone times it.

Every engine is set up for its lowest float32 latency on the requested number of threads: float32 arithmetic
throughout, graph optimisations on, buffers allocated once, inputs handed over without a copy where that is offered.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.metadata
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import MethodError

Outputs = tuple[np.ndarray, ...]

# Engines sum in different orders, which measures 1e-7 to 1e-5 of the largest output on deep networks; a bfloat16 or
# TF32 product, or a wrong answer, measures 1e-3 and more.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine holding one network, or the reason why it does not.

    Parameters
    ----------
    name, version
        Engine and the version of its package ("" if unknown).
    status
        ``ok``: built and checked; ``absent``: package not installed; ``failed``: it raised; ``wrong``: its answer
        differs from the reference by more than `TOLERANCE`.
    detail
        Why, if the status is not ``ok``.
    error
        Largest difference to the reference over the largest reference output; None if nothing was compared.
    build_seconds
        Time from the module to the first answer.
    run
        One inference on the inputs given at construction; only callable with status ``ok``.
    """

    name: str
    version: str = ""
    status: Literal["ok", "absent", "failed", "wrong"] = "ok"
    detail: str = ""
    error: float | None = None
    build_seconds: float = 0.0
    run: Callable[[], object] | None = None


@dataclass(frozen=True)
class _Runner:
    run: Callable[[], Any]
    read: Callable[[Any], Sequence[Any]]  # what `run` returned, as output arrays in order


def reference_outputs(module: Any, inputs: Sequence[Any]) -> Outputs:
    """Answer of PyTorch eager, float32."""
    runner = _torch_eager(module, inputs, threads=1)
    return _as_arrays(runner.read(runner.run()))


def build_rival(
    name: str, module: Any, inputs: Sequence[Any], *, threads: int = 1, reference: Outputs | None = None
) -> Engine:
    """Load a network into one of `RIVALS` and check its answer.

    Parameters
    ----------
    name
        One of `RIVALS`.
    module
        ``torch.nn.Module`` in eval mode, float32.
    inputs
        Example tensors; every later run uses these.
    threads
        Threads the engine may use for one inference. PyTorch's number is process wide.
    reference
        What to compare with; computed with PyTorch eager if None.

    Returns
    -------
    Engine
        Never raises for an engine that is missing, fails or answers differently: its ``status`` says so.

    Raises
    ------
    MethodError
        The name is not one of `RIVALS`.
    """
    if name not in RIVALS:
        raise MethodError(f"unknown engine {name!r}: known are {', '.join(RIVALS)}")
    package, start = RIVALS[name]
    try:
        importlib.import_module(package)
    except ImportError as why:
        return Engine(name=name, status="absent", detail=f"package {package} cannot be imported: {why}")
    if reference is None:
        reference = reference_outputs(module, inputs)
    return _checked(
        name, importlib.metadata.version(package), lambda: start(module, inputs, threads), reference
    )


def build_callable(
    name: str, build: Callable[[], Callable[[], Any]], *, version: str = "", reference: Outputs | None = None
) -> Engine:
    """Make an engine of any function of no arguments, checked like a rival if there is a reference.

    Parameters
    ----------
    build
        Returns that function; its time is `Engine.build_seconds`. The function returns one array or tensor, or a
        sequence of them.
    """
    return _checked(name, version, lambda: _Runner(build(), _as_sequence), reference)


def _checked(name: str, version: str, start: Callable[[], _Runner], reference: Outputs | None) -> Engine:
    begin = time.perf_counter()
    try:
        runner = start()
        outputs = _as_arrays(runner.read(runner.run()))
    except Exception as why:  # any failure of a rival is an entry in the table, not the end of the run
        first_line = (str(why).strip().splitlines() or [""])[0]
        return Engine(
            name=name, version=version, status="failed", detail=f"{type(why).__name__}: {first_line}"
        )
    seconds = time.perf_counter() - begin
    if reference is None:
        return Engine(name=name, version=version, build_seconds=seconds, run=runner.run)
    error, detail = _compare(outputs, reference)
    return Engine(
        name=name,
        version=version,
        status="wrong" if detail else "ok",
        detail=detail,
        error=error,
        build_seconds=seconds,
        run=None if detail else runner.run,
    )


def _compare(outputs: Outputs, reference: Outputs) -> tuple[float | None, str]:
    """Largest error relative to each output's largest value, and what is wrong ("" if nothing is)."""
    shapes, expected = [o.shape for o in outputs], [r.shape for r in reference]
    if shapes != expected:
        return None, f"output shapes {shapes} instead of {expected}"
    worst = 0.0
    for output, exact in zip(outputs, reference, strict=True):
        scale = float(np.abs(exact).max(initial=0.0)) or 1.0
        difference = float(np.abs(output - exact).max(initial=0.0)) / scale
        if not difference <= TOLERANCE:  # also catches NaN
            return difference, f"differs from PyTorch eager by {difference:.1e} of the largest output"
        worst = max(worst, difference)
    return worst, ""


def _as_sequence(raw: Any) -> Sequence[Any]:
    """The tensors of an output, in PyTorch's order, whatever tuples, lists and dicts they stand in."""
    if isinstance(raw, dict):
        raw = tuple(raw.values())
    return tuple(x for part in raw for x in _as_sequence(part)) if isinstance(raw, (tuple, list)) else (raw,)


def _as_arrays(outputs: Sequence[Any]) -> Outputs:
    """Copies, since engines reuse their output buffers."""
    return tuple(np.array(o.detach().numpy() if hasattr(o, "detach") else o) for o in outputs)


def _torch_eager(module: Any, inputs: Sequence[Any], threads: int) -> _Runner:
    import torch

    torch.set_num_threads(threads)
    module = module.eval()

    def run() -> Any:
        with torch.inference_mode():
            return module(*inputs)

    return _Runner(run, _as_sequence)


def _torch_channels_last(module: Any, inputs: Sequence[Any], threads: int) -> _Runner:
    import torch

    module = copy.deepcopy(module).to(memory_format=torch.channels_last)
    inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
    return _torch_eager(module, inputs, threads)


def _torch_compile(module: Any, inputs: Sequence[Any], threads: int) -> _Runner:
    """Inductor with freezing (weights are constants, batch norm folded) and the C++ wrapper (less overhead per call).

    The number of threads is compiled in. Freezing has to be switched on while Dynamo traces: given to `torch.compile`
    as an option it comes too late and silently does nothing. For the same reason nothing may be recompiled later, so
    this module does not share its cache with others.
    """
    import torch
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    compiled = torch.compile(module.eval(), options={"cpp_wrapper": True}, isolate_recompiles=True)

    def run() -> Any:
        with torch.no_grad():
            return compiled(*inputs)

    with inductor.patch(freezing=True):
        run()
    return _Runner(run, _as_sequence)


def _onnxruntime(module: Any, inputs: Sequence[Any], threads: int) -> _Runner:
    """Inputs and outputs are bound once; ONNX Runtime reads and writes these arrays in place."""
    import onnxruntime as ort
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module.eval(), tuple(inputs), dynamo=True, verbose=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # workers spin inside a run, as usual, but do not go on spinning in the next engine's turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = program.model_proto.SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {node.name: np.ascontiguousarray(x) for node, x in zip(session.get_inputs(), inputs, strict=True)}
    answers = {node.name: y for node, y in zip(session.get_outputs(), session.run(None, feeds), strict=True)}
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    for name, array in answers.items():
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run() -> Any:
        session.run_with_iobinding(binding)
        return feeds, answers  # the binding holds addresses only: naming the arrays here keeps them alive

    return _Runner(run, lambda _: list(answers.values()))


def _openvino(module: Any, inputs: Sequence[Any], threads: int) -> _Runner:
    request = openvino_request(module, inputs, threads)
    outputs = range(len(request.model_outputs))
    infer = functools.partial(request.infer, share_outputs=True)
    return _Runner(infer, lambda _: [request.get_output_tensor(i).data for i in outputs])


def openvino_request(module: Any, inputs: Sequence[Any], threads: int, **properties: object) -> Any:
    """OpenVINO inference request for a PyTorch module, see `openvino_model_request`."""
    import openvino as ov

    model = ov.convert_model(
        module.eval(), example_input=tuple(inputs), input=[list(x.shape) for x in inputs], verbose=False
    )
    return openvino_model_request(model, inputs, threads, **properties)


def openvino_model_request(model: Any, inputs: Sequence[Any], threads: int, **properties: object) -> Any:
    """OpenVINO inference request on the CPU with its inputs set (sharing the tensors' memory).

    ``properties`` are added to the configuration, for example ``PERF_COUNT=True``.
    """
    import openvino as ov

    configuration: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        **properties,
    }
    request = ov.Core().compile_model(model, "CPU", configuration).create_infer_request()
    for index, x in enumerate(inputs):
        request.set_input_tensor(index, ov.Tensor(np.ascontiguousarray(x), shared_memory=True))
    return request


RIVALS: dict[str, tuple[str, Callable[[Any, Sequence[Any], int], _Runner]]] = {
    "torch": ("torch", _torch_eager),
    "torch_channels_last": ("torch", _torch_channels_last),
    "torch_compile": ("torch", _torch_compile),
    "onnxruntime": ("onnxruntime", _onnxruntime),
    "openvino": ("openvino", _openvino),
}
"""Name to (package, function that loads a network)."""
