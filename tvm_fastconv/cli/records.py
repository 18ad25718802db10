"""``fastconv records``: what is in files of records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvm_fastconv.errors import InputError

from .arguments import Json
from .output import print_facts, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tvm_fastconv.autotune.records import Line

Files = Annotated[list[str], typer.Argument(help="Files of fastconv tune, the last of which is believed.")]
File = Annotated[str, typer.Argument(help="A file of fastconv tune.")]
Output = Annotated[str, typer.Option("--output", "-o", help="The file to write; may be one of those read.")]

records_app = typer.Typer(help="Look into files of records, merge and prune them.", no_args_is_help=True)


@records_app.command("list")
def list_verb(files: Files, json: Json = False) -> None:
    """Count trials and verdicts by operator and conditions."""
    from tvm_fastconv.autotune.record_sets import summaries

    found = summaries(_read(files))
    if json:
        print_json(found)
        return
    columns = ("operator", "for", "problems", "trials", "failed", "verdicts", "faster than default")
    print_table(
        columns,
        [(s.op, s.conditions, s.problems, s.trials, s.failed, s.verdicts, s.faster) for s in found],
    )


@records_app.command("best")
def best_verb(files: Files, json: Json = False) -> None:
    """Show what compile takes: the verdicts that hold, those that save most first."""
    from tvm_fastconv.autotune.record_sets import holding, title_of

    found = sorted(holding(_read(files)), key=lambda verdict: -verdict.ratio)
    if json:
        print_json(found)
        return
    rows = [
        (title_of(v), v.conditions.cpu, v.conditions.threads, _micro(v.default_seconds), _micro(v.seconds),
         f"{v.ratio:.3f}", f"{v.low:.3f} to {v.high:.3f}", v.knobs)
        for v in found
    ]  # fmt: skip
    columns = ("problem", "cpu", "threads", "default us", "us", "times faster", "interval of 95 %", "knobs")
    print_table(columns, rows)


@records_app.command("show")
def show_verb(
    file: File,
    text: Annotated[str, typer.Argument(help="Part of an operator or problem, such as 'conv2d: 56x56'.")],
    json: Json = False,
) -> None:
    """Show every line about some problems, in order."""
    from tvm_fastconv.autotune.record_sets import found_by, title_of

    found = found_by(_read([file]), text)
    if json:
        print_json(found)
        return
    if not found:
        raise InputError(f"{file} knows no problem whose name holds {text!r}; see fastconv records best")
    rows = [
        (
            title_of(line),
            type(line).__name__.lower(),
            _micro(line.seconds),
            line.knobs,
            getattr(line, "error", ""),
        )
        for line in found
    ]
    print_table(("problem", "line", "us", "knobs", "error"), rows)


@records_app.command("merge")
def merge_verb(files: Files, output: Output) -> None:
    """Write the lines of several files into one, equal ones once and damaged ones not at all."""
    from tvm_fastconv.autotune.record_sets import merged

    _write(output, merged(_read([file]) for file in files))


@records_app.command("prune")
def prune_verb(
    file: File,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; by default the same.")
    ] = None,
    trials: Annotated[bool, typer.Option(help="Keep the trials, from which later tuning learns.")] = True,
) -> None:
    """Drop failed trials, and verdicts that others have replaced."""
    from tvm_fastconv.autotune.record_sets import pruned

    _write(output or file, pruned(_read([file]), keep_trials=trials))


def _read(files: "Sequence[str]") -> "list[Line]":
    from tvm_fastconv.autotune.records import read_records

    return [line for file in files for line in read_records(file)]


def _write(path: str, lines: "Sequence[Line]") -> None:
    from tvm_fastconv.artifact.artifact import replacing
    from tvm_fastconv.autotune.records import to_line

    with replacing(path) as temporary:
        Path(temporary).write_text("".join(f"{to_line(line)}\n" for line in lines))
    print_facts({"file": path, "lines": len(lines)})


def _micro(seconds: float | None) -> str | None:
    return None if seconds is None else f"{1e6 * seconds:.2f}"
