"""How the command line prints: tables and JSON on stdout, progress and warnings on stderr."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_PIPE = 160


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print rows under column names; every column but the first is aligned to the right where it holds numbers."""
    table = Table(title=title, title_justify="left", title_style="")
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = all(row[index][:1].isdigit() or row[index] == "-" for row in cells)
        table.add_column(column, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*map(_escape, row))
    _console(sys.stdout).print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print one ``name  value`` per line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def print_json(value: Any) -> None:
    """Print dataclasses, dicts, lists and scalars as JSON."""
    print(json.dumps(value, indent=2, default=dataclasses.asdict))


def print_warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Print a warning as one line on stderr; stands in for ``warnings.showwarning``."""
    print(f"note: {message}", file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on until the block ends; yields a function that changes the text.

    A terminal shows a spinner. Elsewhere each stage, which is the text up to a colon, is one line.
    """
    console = _console(sys.stderr)
    if console.is_terminal:
        with console.status(_escape(text)) as status:
            yield lambda new: status.update(_escape(new))
        return
    shown = ""

    def show(new: str) -> None:
        nonlocal shown
        stage = new.split(":")[0]
        if stage != shown:
            print(f"{stage} ...", file=sys.stderr, flush=True)
        shown = stage

    show(text)
    yield show


def _console(file: TextIO) -> Console:
    return Console(file=file, width=None if file.isatty() else _WIDTH_OF_A_PIPE)


def _escape(text: str) -> str:
    """Keep rich from reading ``[...]`` in names and paths as markup."""
    return text.replace("[", r"\[")
