"""Values that the command line parses, and the options that several verbs share."""

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


def parse_shape(text: str) -> tuple[int, ...]:
    """Return ``(1, 3, 224, 224)`` for ``1x3x224x224``.

    Raises
    ------
    InputError
        A part is not a positive whole number.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(
            f"--shape {text!r} is not a shape; write positive sizes with x between, such as 1x3x224x224"
        )
    return tuple(map(int, parts))
