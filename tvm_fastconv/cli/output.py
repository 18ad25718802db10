"""How the command line prints: tables and JSON on stdout, progress and warnings on stderr."""

import dataclasses
import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_WIDTH_OF_A_PIPE = 160
_EVERY = 10.0
"""Seconds between lines about work that takes minutes."""

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's control, format and surrogate characters and its own line breaks."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print rows under column names; every column but the first is aligned to the right where it holds numbers."""
    table = Table(title=title, title_justify="left", title_style="")
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = all(row[index][:1].isdigit() or row[index] == "-" for row in cells)
        table.add_column(column, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*map(_text, row))
    _console(sys.stdout).print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print one ``name  value`` per line."""
    lines = {_one_line(name): _one_line(value) for name, value in facts.items()}
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")


def print_line(text: object) -> None:
    """Print one line on stdout, whatever the text holds."""
    print(_one_line(text))


def print_error(text: object) -> None:
    """Print a message on stderr; its lines stay lines."""
    print(printable(text), file=sys.stderr)


def print_json(value: Any) -> None:
    """Print dataclasses, dicts, lists and scalars as JSON."""
    print(json.dumps(value, indent=2, default=dataclasses.asdict))


def print_warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Print a warning on stderr; stands in for ``warnings.showwarning``."""
    print_error(f"note: {message}")


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on until the block ends; yields a function that changes the text.

    A terminal shows a spinner. Elsewhere each stage, which is the text up to a colon, is one line.
    """
    console = _console(sys.stderr)
    if console.is_terminal:
        with console.status(_text(text)) as status:
            yield lambda new: status.update(_text(new))
        return
    shown = ""

    def show(new: str) -> None:
        nonlocal shown
        stage = _one_line(new).split(":")[0]
        if stage != shown:
            print(f"{stage} ...", file=sys.stderr, flush=True)
        shown = stage

    show(text)
    yield show


@contextmanager
def live_table(columns: Sequence[str]) -> Iterator[Callable[[Sequence[Sequence[object]], str], None]]:
    """Show a table on stderr that changes until the block ends; yields a function of its rows and the line below.

    Only the line is shown where there is no terminal, every `_EVERY` seconds.
    """
    console = _console(sys.stderr)
    if console.is_terminal:
        with Live(console=console, transient=True) as live:
            yield lambda rows, caption: live.update(_table(columns, rows, caption))
        return
    shown = float("-inf")

    def show(_rows: Sequence[Sequence[object]], caption: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _EVERY:
            print(_one_line(caption), file=sys.stderr, flush=True)
            shown = time.monotonic()

    yield show


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> Table:
    table = Table(caption=_text(caption), caption_justify="left", caption_style="")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place > 1 else "left")
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _console(file: TextIO) -> Console:
    return Console(file=file, width=None if file.isatty() else _WIDTH_OF_A_PIPE)


def _text(cell: object) -> Text:
    """Text as it is: rich would read ``[...]`` in names and paths as markup."""
    return Text(_one_line(cell))


def printable(text: object) -> str:
    """Return text with what would steer a terminal spelt out: names come from files, and lines end here.

    Of several lines, each is one. Whoever forges a file may not forge what is said about it.
    """
    return "\n".join(map(_spelt_out, str(text).split("\n")))


def _spelt_out(line: str) -> str:
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in line
    )


def _one_line(text: object) -> str:
    return printable(text).replace("\n", "\\n")
