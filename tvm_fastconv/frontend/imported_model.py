"""What every frontend returns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from torch.export import ExportedProgram


@dataclass(frozen=True)
class ImportedModel:
    """A model as one Relax function, with what is needed to run and check it.

    Attributes
    ----------
    mod : tvm.IRModule
        One Relax function ``main``: its parameters are the inputs in order, all weights are constants in it, it
        returns one tensor or a tuple, and every operator call carries its layer name.
        Weights may share memory with the model they came from.
    input_names, output_names : tuple of str
    example_inputs : tuple of ndarray, optional
        In the order and dtypes of the parameters of ``main``.
    reference : callable, optional
        Runs the source model (PyTorch, eval, float32) on arrays: ``reference(*inputs) -> (output, ...)``.
        ``None`` for ONNX.
    program : ExportedProgram, optional
        What was imported, decomposed: ``mod``'s variables stand for the nodes of its graph (`source_values`).
        ``None`` for ONNX.
    notices : tuple of str
        One-line facts for the user; each was also issued as a ``UserWarning``.
    """

    mod: tvm.IRModule
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    example_inputs: tuple[np.ndarray, ...] | None
    reference: Callable[..., tuple[np.ndarray, ...]] | None
    program: ExportedProgram | None
    notices: tuple[str, ...]
