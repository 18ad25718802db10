"""Values that the command line parses, and the options that several verbs share."""

import math
from typing import Annotated

import typer

from tvm_fastconv.errors import InputError

Model = Annotated[
    str, typer.Argument(help="A .pt2 or .onnx file, package.module:factory or file.py:factory.")
]
Compiled = Annotated[str, typer.Argument(help="A compiled model, model.so.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Threads = Annotated[int | None, typer.Option(help="Worker threads; by default one per physical core.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Shape of an input, such as 1x3x224x224; once per input, in order."),
]


MAX_AXES = 8
MAX_ELEMENTS = 2**28
"""1 GiB of float32 for each input that is made up."""


def parse_shape(text: str) -> tuple[int, ...]:
    """Return ``(1, 3, 224, 224)`` for ``1x3x224x224``.

    Raises
    ------
    InputError
        A part is not a positive whole number, or there are too many of them, or too many elements.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and part.strip("0") for part in parts):
        raise InputError(
            f"--shape {text!r} is not a shape; write positive sizes with x between, such as 1x3x224x224"
        )
    digits = max(len(part.lstrip("0")) for part in parts)
    if len(parts) > MAX_AXES or digits > len(str(MAX_ELEMENTS)) or math.prod(map(int, parts)) > MAX_ELEMENTS:
        raise InputError(
            f"--shape {text[:80]!r} is too large; allowed: up to {MAX_AXES} sizes, {MAX_ELEMENTS} elements in all"
        )
    return tuple(map(int, parts))
