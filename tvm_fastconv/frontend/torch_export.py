"""An ``nn.Module`` with example inputs becomes an ``ExportedProgram`` in eval mode; its errors become ours."""

import contextlib
import logging
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.export import ExportedProgram, _trace
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from tvm_fastconv.errors import ModelError, quoted

from .examples import HALVES, example_tensors

_FIXED_GRAPH = (
    "forward() depends on the values of a tensor (if or while on a tensor, .item(), int(tensor), .numpy()). "
    "A compiled graph is the same for every input: use torch.where, or make that value a constant"
)


def export_module(module: nn.Module, example_inputs: Any) -> tuple[ExportedProgram, list[str]]:
    """Export a module in eval mode, leaving the module as it was.

    Parameters
    ----------
    module : nn.Module
    example_inputs : Tensor, ndarray or tuple of them
        One per parameter of ``forward``; they fix shapes and dtypes.

    Returns
    -------
    (program, notices)

    Raises
    ------
    ModelError
        The inputs are missing or wrong, or torch.export cannot trace the module.
    """
    inputs = _matching(module, example_tensors(example_inputs))
    notices = []
    if any(part.training for part in module.modules()):
        notices.append(
            "the model is in train() mode; it is compiled as in eval() mode (call model.eval() first)"
        )
    with _evaluating(module), quiet():
        try:
            return torch.export.export(module, inputs, strict=False), notices
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # forward() may call sys.exit
            raise ModelError(_explain(error, module)) from error


def _matching(module: nn.Module, inputs: tuple) -> tuple:
    """Move inputs to the module's device and, for a half-precision module, to its dtype."""
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    if first is None:
        return inputs

    def fit(tensor: torch.Tensor) -> torch.Tensor:
        dtype = first.dtype if first.dtype in HALVES and tensor.is_floating_point() else tensor.dtype
        return tensor.to(first.device, dtype)

    return pytree.tree_map(fit, inputs)


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch.export's logs, graphs and warnings about itself; move what a model prints to stderr."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # It prints the graph it has so far when tracing fails: our message has the line of the model instead.
    no_graphs = mock.patch.object(_trace, "print", create=True)
    try:
        with no_graphs, contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(previous)


def _explain(error: BaseException, module: nn.Module) -> str:
    """Return the part of a torch.export failure that concerns the user, with the line of the model's own code."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_internal(f.filename)]
    place = f" at {frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""
    if isinstance(error, GuardOnDataDependentSymNode):
        return f"{type(module).__name__} cannot be traced{place}: {_FIXED_GRAPH}"
    return f"{type(module).__name__} cannot be traced with these example inputs{place}: {quoted(error)}"


def _is_internal(filename: str) -> bool:
    """Whether a file is PyTorch's, Python's or this package's, not the model's."""
    path = Path(filename)
    if Path(sysconfig.get_path("stdlib")) in path.parents and "site-packages" not in path.parts:
        return True
    roots = (Path(torch.__file__).parent, Path(__file__).parent)
    return any(root in path.parents for root in roots) or not path.exists()
