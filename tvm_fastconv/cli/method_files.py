"""Methods written in a file, for the command line.

::

    "layer1.*" = "dense"                                   # a pattern over layer names, and a method by name
    "layer2.*" = { method = "bitserial", weight_bits = 2 } # the same with the method's parameters
    "layer3.*" = { method = "tucker", ranks = [32, 48] }   # an array where a parameter is a tuple
"""

import dataclasses
import os
import sys
from typing import Any

from ..configs import METHODS, Method
from ..errors import MethodError
from ..regular_files import open_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_methods(path: str | os.PathLike[str]) -> dict[str, Method]:
    """Read a TOML file into what ``compile(methods=...)`` takes.

    Raises
    ------
    MethodError
        The file cannot be read, or names a method or a parameter that does not exist.
    """
    try:
        with open_regular(path) as file:
            table = tomllib.load(file)
    except OSError as error:
        raise MethodError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise MethodError(f"{path} is not TOML: {error}") from None
    return {pattern: _config(f"{path}, {pattern!r}", value) for pattern, value in table.items()}


def _config(where: str, value: Any) -> Method:
    fields = {"method": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or "method" not in fields:
        raise MethodError(
            f'{where}: {value!r} is neither a method\'s name nor a table like {{ method = "dense" }}'
        )
    name = fields["method"]
    parameters = {key: _tuple(item) for key, item in fields.items() if key != "method"}
    if not isinstance(name, str) or name not in METHODS:
        raise MethodError(f"{where}: unknown method {name!r}; known: {', '.join(METHODS)}")
    known = [field.name for field in dataclasses.fields(METHODS[name])]
    if unknown := [key for key in parameters if key not in known]:
        allowed = ", ".join(known) or "none"
        raise MethodError(f"{where}: {name} has no parameter {unknown[0]!r}; allowed: {allowed}")
    try:
        return METHODS[name](**parameters)
    except MethodError as error:
        raise MethodError(f"{where}: {error}") from None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
