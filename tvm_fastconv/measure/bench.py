"""A compiled file's speed, beside other engines on the model that it was compiled from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, ModelError
from ..runtime.array_files import random_inputs
from ..runtime.arrays import aligned_copy
from ..runtime.compiled_model import CompiledModel
from .profile import check_repeats
from .rivals import build_callable, build_rival, reference_outputs
from .timing import interleave

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

OURS = "fastconv"


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """One engine's time for one call.

    Parameters
    ----------
    engine, version
        ``fastconv`` or a rival, and the version of its package.
    status, detail
        As `tvm_fastconv.rivals.Engine` has them: ``ok``, or why there is no time.
    median_ms, spread
        Median milliseconds per call, and the interquartile range over the median.
    ratio
        This engine's time over ours: above 1 where ours is faster.
    """

    engine: str
    version: str
    status: str
    detail: str = ""
    median_ms: float | None = None
    spread: float | None = None
    ratio: float | None = None


def bench(
    model: CompiledModel,
    *,
    against: Sequence[str] = (),
    module: "nn.Module | None" = None,
    inputs: Sequence[np.ndarray] | None = None,
    threads: int = 1,
    repeats: int = 15,
) -> list[EngineTime]:
    """Time ``model`` and rivals in turns, in one run, each checked against PyTorch first.

    Parameters
    ----------
    model
        Loaded with the same number of threads.
    against
        Names in `tvm_fastconv.rivals.RIVALS`; one whose package is missing gets a row without a time.
    module
        The PyTorch model that ``model`` was compiled from; needed for rivals.
    inputs
        What to run on; random by default.
    threads
        Threads that each rival may use.

    Returns
    -------
    list[EngineTime]
        Ours first.

    Raises
    ------
    ModelError
        Rivals were named, but not the model that they should run.
    InputError
        ``repeats`` is no number from 1 on.
    """
    check_repeats("repeats", repeats)
    arrays = tuple(inputs) if inputs is not None else random_inputs(model.manifest.inputs)
    if against and module is None:
        raise ModelError(
            f"{', '.join(against)} cannot run a compiled file: also give the PyTorch model that it was made from "
            "(module=, or --source on the command line)"
        )
    tensors = _tensors(arrays) if module is not None else ()
    reference = _reference(module, tensors) if module is not None else None
    engines = [
        build_callable(OURS, lambda: bound_call(model, arrays), version=_version(), reference=reference),
        *(build_rival(name, module, tensors, threads=threads, reference=reference) for name in against),
    ]
    calls = {engine.name: engine.run for engine in engines if engine.run is not None}
    timings = interleave(calls, repeats)
    ours = timings.get(OURS)
    return [
        EngineTime(
            engine=engine.name,
            version=engine.version,
            status=engine.status,
            detail=engine.detail,
            median_ms=timing.median * 1e3 if (timing := timings.get(engine.name)) else None,
            spread=timing.spread if timing else None,
            ratio=timing.median / ours.median if timing and ours else None,
        )
        for engine in engines
    ]


def bound_call(model: CompiledModel, inputs: Sequence[Any]) -> Callable[[], Any]:
    """One inference on buffers that are made once, as rivals have them; a plain call where that cannot be."""
    try:
        return model.bind(*(aligned_copy(np.asarray(value)) for value in inputs))
    except InputError:
        return lambda: model(*inputs)


def _reference(module: "nn.Module", tensors: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    try:
        return reference_outputs(module, tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the source model does not run on the compiled model's inputs {shapes}: {first_line}"
        ) from None


def pytorch_module(source: Any) -> "nn.Module":
    """Return the PyTorch model that ``source`` is or names, for rivals to run.

    Raises
    ------
    ModelError
        It cannot be found or read, or is an ONNX file.
    """
    from torch import nn
    from torch.export import ExportedProgram

    from ..frontend.sources import resolve

    model = resolve(source)
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, ExportedProgram):
        return _exported_module(model)
    raise ModelError(f"{source} is no PyTorch model; rivals are built from an nn.Module or a .pt2 file")


def _tensors(arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in arrays)


def _exported_module(program: "ExportedProgram") -> "nn.Module":
    """Return the program as a module whose ``eval()``, which the rivals call, does nothing instead of refusing."""
    from torch import nn

    class Exported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program.module()

        def train(self, mode: bool = True) -> "nn.Module":
            return self

        def forward(self, *inputs: Any) -> Any:
            return self.program(*inputs)

    return Exported()


def _version() -> str:
    from .. import __version__

    return __version__
