"""What is installed for whom: plain ``pip install`` brings what running needs; the rest comes with an extra."""

import importlib.util

from .errors import FastconvError

EXTRAS = {
    "torch": "compile",
    "tensorly": "compile",
    "onnx": "onnx",
    "xgboost": "tune",
    "cloudpickle": "tune",
    "psutil": "tune",
    "tornado": "tune",
}
"""Name of a package's module to the extra that brings it."""


def missing_package(error: ModuleNotFoundError) -> str | None:
    """One line that says what to install, where a package of an extra is missing; else ``None``."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS or _is_installed(package):
        return None
    return f"{package} is not installed; run: pip install 'tvm-fastconv[{EXTRAS[package]}]'"


def require(*packages: str) -> None:
    """Say before the work what would be missing in the middle of it.

    Raises
    ------
    FastconvError
        One of the packages is not installed.
    """
    for package in packages:
        if not _is_installed(package):
            raise FastconvError(str(missing_package(ModuleNotFoundError(name=package))))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):
        return False
