"""Forged manifests in compiled files whose seal is right. Each is refused, or what it says is harmless."""

import contextlib
import functools
import io
import json
import os
import random
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path

from tvm_fastconv.artifact.artifact import MANIFEST_SECTION, SEAL_SIZE, read_artifact, seal
from tvm_fastconv.cli.report import report_verb
from tvm_fastconv.errors import FastconvError
from tvm_fastconv.runtime.array_files import random_inputs
from tvm_fastconv.runtime.compiled_model import load

from .damage import damaged_bytes, damaged_tree
from .files import original
from .generator import Generator

_ELEMENTS = 1_000_000
"""Of the inputs that a manifest asks for, above which the model is not called."""

Case = tuple[tuple[int, ...], ...]


class Manifests(Generator):
    """A compiled file with any JSON in place of its manifest, or its manifest with some fields changed."""

    name = "manifests"
    parts = 25

    def case(self, rng: random.Random) -> Case:
        return tuple(
            tuple(rng.randrange(2**32) for _ in range(rng.choice((1, 1, 1, 2, 4)))) for _ in range(self.parts)
        )

    def run(self, case: Case) -> str | None:
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory() as folder:
            for number, seeds in enumerate(case):
                if wrong := _wrong(seeds, Path(folder) / f"m{number}.so"):
                    return f"{seeds}: {wrong}"
        return None

    def smaller(self, case: Case) -> Iterator[Case]:
        if len(case) > 1:
            yield from ((seeds,) for seeds in case)
            return
        for left_out in range(len(case[0]) if len(case[0]) > 1 else 0):
            yield (case[0][:left_out] + case[0][left_out + 1 :],)

    def code(self, case: Case) -> str:
        return "\n".join(
            (
                "import torch, tvm_fastconv as fc",
                "from tvm_fastconv.artifact import artifact",
                "# any compiled file, with this in place of its manifest:",
                f"text = {_forged(case[0])!r}",
                'section = artifact.read_artifact("m.so").elf.sections[artifact.MANIFEST_SECTION]',
                'with open("m.so", "r+b") as file:',
                "    file.seek(section.offset)",
                "    file.write(text.ljust(section.size))",
                "    file.seek(-artifact.SEAL_SIZE, 2)",
                "    file.truncate()",
                'artifact.seal("m.so")',
                'print(fc.load("m.so"))',
            )
        )


def _wrong(seeds: tuple[int, ...], path: Path) -> str | None:
    text = _forged(seeds)
    path.write_bytes(original(".so"))
    section = read_artifact(path).elf.sections[MANIFEST_SECTION]
    if len(text) > section.size:
        text = text[: section.size]
    with open(path, "r+b") as file:
        file.seek(section.offset)
        file.write(text.ljust(section.size))
        file.seek(-SEAL_SIZE, os.SEEK_END)
        file.truncate()
    seal(path)
    with contextlib.suppress(FastconvError):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            report_verb(str(path))
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n" for c in shown.getvalue()):
            return "the report steers the terminal"
    with contextlib.suppress(FastconvError):
        model = load(path, threads=1)
        repr(model)
        with contextlib.suppress(FastconvError):
            model.check()
        specs = model.manifest.inputs
        elements = sum(prod(n if isinstance(n, int) else 1 for n in spec.shape) for spec in specs)
        if elements <= _ELEMENTS and all(spec.dtype != "bfloat16" for spec in specs):
            inputs = random_inputs(specs)
            with contextlib.suppress(FastconvError):
                model(*inputs)
            model.profile(*inputs, repeat=1)
    return None


def _forged(seeds: tuple[int, ...]) -> bytes:
    """The JSON of a manifest with everything done to it."""
    tree = json.loads(_manifest())
    for seed in seeds:
        rng = random.Random(seed)
        if rng.random() < 0.05:
            return damaged_bytes(json.dumps(tree).encode(), rng)
        tree = damaged_tree(tree, rng, "canary")
    return json.dumps(tree).encode()


@functools.cache
def _manifest() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.so"
        path.write_bytes(original(".so"))
        return read_artifact(path).manifest.to_section()
