"""Frontends: a PyTorch module, exported program or ONNX file becomes a Relax module with layer names.

``torch_export`` (module -> program), ``torch_program`` (checks, float32), ``torch_import`` and ``torch_rules*``
(program -> Relax) for PyTorch; ``onnx`` for ONNX files; ``sources`` for models named by a string.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from tvm_fastconv.errors import ModelError
from tvm_fastconv.notices import notify

from .imported_model import ImportedModel
from .sources import resolve

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["ImportedModel", "import_model"]


def import_model(
    model: Union["nn.Module", "ExportedProgram", str, Path], example_inputs: Any = None
) -> ImportedModel:
    """Import a model as a Relax module.

    Parameters
    ----------
    model : nn.Module, ExportedProgram, str or Path
        A string is a ``.pt2``, ``.onnx`` or ``.ckpt`` file, ``"package.module:factory"`` or ``"file.py:factory"``.
    example_inputs : Tensor, ndarray or tuple of them, optional
        Needed for a module; for the rest they default to what the file holds, if anything.

    Returns
    -------
    ImportedModel
        Its ``notices`` are also issued as warnings.

    Raises
    ------
    ModelError
        The model cannot be found, read or imported.
    """
    try:
        imported = _import(resolve(model), example_inputs)
    except ModelError:
        raise
    except Exception as error:  # of PyTorch or TVM, about what no export makes
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"the model cannot be imported: {type(error).__name__}: {line}") from error
    for notice in imported.notices:
        notify(notice)
    return imported


def _import(model: Union["nn.Module", "ExportedProgram", Path], example_inputs: Any) -> ImportedModel:
    from torch import nn

    from .torch_export import export_module
    from .torch_program import import_exported

    if isinstance(model, nn.Module):
        program, notices = export_module(model, example_inputs)
        return import_exported(program, example_inputs, notices)
    if isinstance(model, Path):
        try:
            from .onnx import import_onnx
        except ImportError as error:
            raise ModelError(
                "reading ONNX files needs the onnx package: pip install tvm-fastconv[onnx]"
            ) from error
        return import_onnx(model, example_inputs)
    return import_exported(model, example_inputs, [])
