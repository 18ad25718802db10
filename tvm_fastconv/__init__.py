"""Compile PyTorch CNNs to a ``.so``: recognise the structure of their convolutions and run it faster than dense.

``compile`` and ``load`` are the two calls to know. Importing this package touches no device and imports neither
TVM, PyTorch nor NumPy: every public name is imported from its module when it is first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from .errors import (
    ArtifactError,
    FastconvError,
    InputError,
    MethodError,
    ModelError,
    TargetError,
    TrainError,
)

if TYPE_CHECKING:
    from . import ops
    from .batch_tuning import export_batch, import_batch
    from .c_library import CLibrary, compile_c_library
    from .compiler import compile
    from .configs import (
        CP,
        Bitserial,
        Dense,
        DepthwiseSeparable,
        FixedStencil,
        Lookup,
        SpatialSeparable,
        Tucker,
    )
    from .deployment import Kit, deploy
    from .report import LayerReport
    from .runtime.compiled_model import CompiledModel, load
    from .train.compress import CompressedLayer, compress_, penalty
    from .tuning import Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "CP",
    "ArtifactError",
    "Bitserial",
    "CLibrary",
    "CompiledModel",
    "CompressedLayer",
    "Dense",
    "DepthwiseSeparable",
    "FastconvError",
    "FixedStencil",
    "InputError",
    "Kit",
    "LayerReport",
    "Lookup",
    "MethodError",
    "ModelError",
    "SpatialSeparable",
    "TargetError",
    "TrainError",
    "Tucker",
    "Tuning",
    "compile",
    "compile_c_library",
    "compress_",
    "deploy",
    "export_batch",
    "import_batch",
    "load",
    "ops",
    "penalty",
    "tune",
]

_MODULE_OF = {
    "CP": "configs",
    "Bitserial": "configs",
    "CLibrary": "c_library",
    "CompiledModel": "runtime.compiled_model",
    "CompressedLayer": "train.compress",
    "Dense": "configs",
    "DepthwiseSeparable": "configs",
    "FixedStencil": "configs",
    "Kit": "deployment",
    "LayerReport": "report",
    "Lookup": "configs",
    "SpatialSeparable": "configs",
    "Tucker": "configs",
    "Tuning": "tuning",
    "compile": "compiler",
    "compile_c_library": "c_library",
    "compress_": "train.compress",
    "deploy": "deployment",
    "export_batch": "batch_tuning",
    "import_batch": "batch_tuning",
    "load": "runtime.compiled_model",
    "penalty": "train.compress",
    "tune": "tuning",
}

_MODULES = ("ops",)
"""Public modules, themselves imported when first used."""

# In a source checkout four subpackages (topi, relay_passes, autotune, train) lie beside this folder, not inside it.
# Python finds this folder first wherever the checkout is the current folder, so say here where the others are.
if not os.path.isdir(os.path.join(__path__[0], "relay_passes")):
    __path__.append(os.path.dirname(os.path.abspath(__path__[0])))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        from .extras import missing_package

        if (text := missing_package(error)) is None:
            raise
        raise ModuleNotFoundError(f"tvm_fastconv.{name}: {text}", name=error.name) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
