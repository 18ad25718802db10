"""Models named by a string: ``a.pt2``, ``a.onnx``, ``best.ckpt``, ``package.module:factory``, ``file.py:factory``."""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from tvm_fastconv.errors import ModelError

from .pt2_file import read_program

_ALLOWED = (
    "allowed: an nn.Module, a torch.export.ExportedProgram, a .pt2 file (torch.export.save), an .onnx file, a .ckpt "
    "file of fastconv train, 'package.module:factory' or 'file.py:factory'"
)


def resolve(model: Any) -> nn.Module | ExportedProgram | Path:
    """Return the module or program that ``model`` is or names, or the path of an ONNX file.

    Raises
    ------
    ModelError
        It is something else, or the file or factory cannot be found, read or called.
    """
    if isinstance(model, nn.Module | ExportedProgram):
        return model
    if not isinstance(model, str | os.PathLike):
        what = (
            f"the class {model.__name__}: create an instance"
            if isinstance(model, type)
            else repr(type(model))
        )
        raise ModelError(f"the model is {what}; {_ALLOWED}")
    text = os.fspath(model)
    path = Path(text)
    if path.suffix == ".pt2":
        return _load_program(_existing(path))
    if path.suffix == ".onnx":
        return _existing(path)
    if path.suffix == ".ckpt":
        return _load_trained(_existing(path))
    if path.suffix in (".pt", ".pth"):
        raise ModelError(
            f"'{text}' is a pickle, which holds no graph: save the model with torch.export.save as .pt2, "
            "or name a function that builds it (file.py:factory)"
        )
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise ModelError(f"'{text}' names no model; {_ALLOWED}")
    return _call(text, _attribute(_load_module(place), name, place))


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder, not a model file")
    if not path.exists():
        raise ModelError(f"'{path}' does not exist")
    if not path.is_file():
        raise ModelError(f"'{path}' is no regular file; a model is not read from a FIFO or a device")
    return path


def _load_program(path: Path) -> ExportedProgram:
    with contextlib.suppress(ImportError):  # registers the operators of quantized programs
        importlib.import_module("torch.ao.quantization.fx._decomposed")
    return read_program(path)


def _load_trained(path: Path) -> ExportedProgram:
    from tvm_fastconv.train.running.export import exported

    return exported(path)


def _load_module(place: str) -> ModuleType:
    """Import ``package.module`` (the current folder counts, as for ``python -m``) or run ``file.py``."""
    is_file = place.endswith(".py")
    folder = str(_existing(Path(place)).resolve().parent) if is_file else os.getcwd()
    with _importable(folder):
        try:
            return _run_file(Path(place)) if is_file else importlib.import_module(place)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # code that is run may call sys.exit
            raise ModelError(
                f"'{place}' cannot be imported: {type(error).__name__}: {_first_line(error)}"
            ) from error


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_fastconv_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, name: str, place: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            own = [k for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
            raise ModelError(
                f"'{place}' has no '{name}'; it defines: {', '.join(sorted(own)) or 'no function'}"
            )
        value = getattr(value, part)
    return value


def _call(text: str, factory: Callable[[], Any]) -> nn.Module | ExportedProgram:
    """Call the factory; a ready module or program is taken as it is."""
    if isinstance(factory, nn.Module | ExportedProgram):
        return factory
    if not callable(factory):
        raise ModelError(f"'{text}' is a {type(factory).__name__}, not a function that returns a model")
    try:
        model = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ModelError(f"'{text}' raised {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(model, nn.Module | ExportedProgram):
        raise ModelError(f"'{text}' returned a {type(model).__name__}; allowed: nn.Module, ExportedProgram")
    return model


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
