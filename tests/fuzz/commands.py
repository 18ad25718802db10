"""Command lines: each ends with exit code 0 or with 2 and one message, and leaves nothing half done behind.

Code 1 is an answer as well: that of a bench whose table says that an engine is wrong.
"""

import contextlib
import hashlib
import inspect
import io
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tvm_fastconv.temporary import temporary_folder

from . import command_files
from .command_files import BASE, MADE, NETWORK, Damaged, make_base
from .command_lines import line
from .generator import Generator

_WRITING = ("-o", "--output", "--trace", "--dump-ir")
"""Options that name a file which may be new afterwards."""


@dataclass(frozen=True)
class Command:
    """A command line and the files that were made for it, beside those of `make_base`."""

    words: tuple[str, ...]
    files: tuple[tuple[str, bytes | Damaged], ...] = ()


class Commands(Generator):
    """Random command lines, run in this process."""

    name = "commands"
    limit = 400.0  # the first case of a process imports everything and makes the files of all

    def case(self, rng: random.Random) -> Command:
        """Make files first, then a line that may name them."""
        files: dict[str, bytes | Damaged] = {}
        for _ in range(rng.choice([0, 1, 1, 2])):
            suffix = rng.choice(list(MADE))
            files[f"made{len(files)}.{suffix}"] = MADE[suffix](rng)
        if rng.random() < 0.3:
            source = rng.choice(
                ["model.so", "model.pt2", "model.onnx", "x.npy", "x.npz", "methods.toml", "row.json", "text"]
            )
            share, mask = rng.choice([(1.0, 0), (1.0, 1 << rng.randrange(8)), (rng.random(), 0)])
            suffix = Path(source if rng.random() < 0.8 else rng.choice(BASE)).suffix
            files[f"damaged{suffix}"] = Damaged(source, share, rng.random(), mask)
        return Command(tuple(line(rng, list(files))), tuple(files.items()))

    def run(self, case: Command) -> str | None:
        """Run one line in a folder of its own."""
        back = os.getcwd()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            work = folder / "work"
            shutil.copytree(_base(), work)
            os.mkfifo(work / "fifo")
            (folder / "tmp").mkdir()
            for file, data in case.files:
                source = (work / data.source).read_bytes() if isinstance(data, Damaged) else b""
                (work / file).write_bytes(data.of(source) if isinstance(data, Damaged) else data)
            before = _listing(work)
            os.chdir(work)
            tempfile.tempdir = str(folder / "tmp")
            try:
                code, out, err = _call(case.words)
            finally:
                os.chdir(back)
                tempfile.tempdir = None
            return _wrong(case.words, code, out, err) or _left(case.words, code, folder, before)

    def smaller(self, case: Command) -> Iterator[Command]:
        """Yield cases without one of the words or files, then with a plain file for a made one."""
        for index in range(len(case.words)):
            yield replace(case, words=case.words[:index] + case.words[index + 1 :])
        for index in range(len(case.files)):
            yield replace(case, files=case.files[:index] + case.files[index + 1 :])

    def code(self, case: Command) -> str:
        """Return a program that makes the files and runs the line."""
        lines = [
            "import os, sys, tempfile", "from pathlib import Path", "import numpy as np", "",
            f'NETWORK = r"""{NETWORK}"""', "", inspect.getsource(make_base), "",
            "os.chdir(tempfile.mkdtemp())", "make_base(Path.cwd())", "os.mkfifo('fifo')",
        ]  # fmt: skip
        for name, data in case.files:
            made = repr(data)
            if isinstance(data, Damaged):
                lines.append(f"data = bytearray(Path({data.source!r}).read_bytes())")
                lines.append(f"data = data[:int(len(data) * {data.share})]")
                lines += ["if data:", f"    data[int(len(data) * {data.place})] ^= {data.mask}"]
                made = "data"
            lines.append(f"Path({name!r}).write_bytes({made})")
        lines += ["from tvm_fastconv import cli", f"cli.main({list(case.words)!r})"]
        return "\n".join(lines)


_kept = contextlib.ExitStack()
"""Holds the folder of `_base`; where the process is killed, the next run removes it."""


@cache
def _base() -> Path:
    """Make the files that every case starts with, once in a process."""
    folder = _kept.enter_context(temporary_folder())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command_files.make_base(folder)
    return folder


def _call(words: tuple[str, ...]) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr, through streams that are as strict as those of a process."""
    from tvm_fastconv import cli

    out, err = io.BytesIO(), io.BytesIO()
    streams = io.TextIOWrapper(out, encoding="utf-8"), io.TextIOWrapper(err, encoding="utf-8")
    code: object = "no exit"
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            cli.main(list(words))
        except SystemExit as stop:
            code = stop.code or 0
        for stream in streams:
            stream.flush()
    return code, out.getvalue().decode(), err.getvalue().decode()


HELP = ((), ("records",))
"""What has verbs and was given none prints them, with exit code 2."""


def _wrong(words: tuple[str, ...], code: object, out: str, err: str) -> str | None:
    differs = words[:1] == ("bench",) and "wrong" in out
    if code not in (0, 2, *([1] if differs else [])):
        return f"exit code {code}: {err}"
    if odd := [char for char in out + err if not char.isprintable() and char != "\n"]:
        return f"control characters {odd}: {err!r}"
    if "Traceback" in out + err or "Warning:" in err:
        return f"more than a message: {err}"
    if code != 2:
        return f"an error, and exit code {code}: {err}" if "error: " in err else None
    if words in HELP:
        return None if "Usage: " in out and not err else f"no help: {out}{err}"
    ours = sum(text.startswith("error: ") for text in err.splitlines())
    usage = err.count("─ Error ─")
    if ours + usage != 1:
        return f"{ours + usage} messages: {err}"
    if "--help" not in words and out:
        return f"a message, and a result: {out}"
    return None


def _left(words: tuple[str, ...], code: object, folder: Path, before: dict[str, str]) -> str | None:
    """Say which files are new or changed that must not be."""
    if left := os.listdir(folder / "tmp"):
        return f"left in the temporary folder: {left}"
    after = _listing(folder / "work")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    named = [value for option, value in itertools.pairwise(words) if option in _WRITING]
    named += [word.partition("=")[2] for word in words if word.startswith(_WRITING)] + ["ir"]
    dumps = tuple(os.path.normpath(value) for value in named if "--dump-ir" in words)
    if code == 0 and (words[0] == "deploy" or "c-library" in words):  # their output is a folder
        dumps += tuple("" if os.path.normpath(value) == "." else os.path.normpath(value) for value in named)
    wrong = [
        name for name in changed
        if not name.startswith(dumps or ("\0",)) and (code != 0 or name not in map(os.path.normpath, named))
    ]  # fmt: skip
    if wrong:
        return f"exit code {code} and {wrong} changed"
    done = code == 0 and words[0] == "compile" and "--help" not in words
    return "nothing was written" if done and not changed else None


def _listing(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its content's hash."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = Path(root, name)
            data = path.read_bytes() if path.is_file() else b""
            found[os.path.relpath(path, folder)] = hashlib.sha256(data).hexdigest()
    return found
