"""Values that the command line parses, and the options that several verbs share."""

import math
import os
from typing import Annotated

import typer

from tvm_fastconv.errors import InputError
from tvm_fastconv.regular_files import open_regular

Model = Annotated[
    str, typer.Argument(help="A .pt2, .onnx or .ckpt file, package.module:factory or file.py:factory.")
]
Compiled = Annotated[str, typer.Argument(help="A compiled model, model.so.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Threads = Annotated[int | None, typer.Option(help="Worker threads; by default one per physical core.")]
RecordedThreads = Annotated[
    int | None,
    typer.Option(help="Of the records; by default this machine's physical cores, 1 for another machine."),
]
AllowTf32 = Annotated[
    bool, typer.Option("--allow-tf32", help="Let dense layers of a GPU round what they multiply to TF32.")
]
WeightGrowth = Annotated[
    float,
    typer.Option(help="How many times as large all weights may become for speed; by default any.", min=1),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Shape of an input, such as 1x3x224x224; once per input, in order."),
]


Secret = Annotated[
    str | None,
    typer.Option(help="A file with the secret that tuners and devices share; else FASTCONV_SECRET."),
]

SECRET = "FASTCONV_SECRET"
"""Environment variable with the secret; an argument could be read by everybody on the machine."""

MAX_SECRET_BYTES = 4096

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


def parse_address(text: str) -> tuple[str, int]:
    """Return ``("10.0.0.1", 9190)`` for ``10.0.0.1:9190``.

    Raises
    ------
    InputError
        It is no host and port.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise InputError(f"{text[:80]!r} is no address; write HOST:PORT, such as 127.0.0.1:9190")
    return host, int(port)


def read_secret(path: str | None) -> str:
    """The secret in a file, without white space around it, else that of the environment; empty where there is none.

    Raises
    ------
    InputError
        The file cannot be read, or holds nothing.
    """
    if path is None:
        return os.environ.get(SECRET, "")
    try:
        with open_regular(path) as file:
            secret = file.read(MAX_SECRET_BYTES).decode(errors="replace").strip()
    except OSError as error:
        raise InputError(f"cannot read the secret {path}: {error.strerror}") from None
    if not secret:
        raise InputError(f"the secret {path} is empty")
    return secret
