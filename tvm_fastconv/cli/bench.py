"""``fastconv bench``: milliseconds of a compiled file, beside other engines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import Compiled, Json
from .output import print_json, print_table, progress

if TYPE_CHECKING:
    from tvm_fastconv.measure.bench import EngineTime


def bench_verb(
    model: Compiled,
    against: Annotated[str, typer.Option(help="Rivals, with commas: torch,onnxruntime,openvino,...")] = "",
    source: Annotated[
        str | None, typer.Option(help="The PyTorch model that the file was compiled from; rivals run it.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every engine.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, max=100_000, help="Turns of every engine.")] = 15,
    json: Json = False,
) -> None:
    """Time a compiled model and rivals in turns, in one run; ratios above 1 say that ours is faster.

    The exit code is 1 where an engine answers differently.
    """
    from tvm_fastconv.measure.bench import bench, pytorch_module
    from tvm_fastconv.runtime.compiled_model import load

    names = [name.strip() for name in against.split(",") if name.strip()]
    loaded = load(model, threads=threads)
    module = None if source is None else pytorch_module(source)
    with progress(f"measuring {', '.join([model, *names])}"):
        rows = bench(loaded, against=names, module=module, threads=threads, repeats=repeats)
    if json:
        print_json({"file": model, "threads": threads, "repeats": repeats, "engines": rows})
    else:
        _print_rows(rows, threads, repeats)
    if any(row.status == "wrong" for row in rows):
        raise typer.Exit(1)


def _print_rows(rows: "Sequence[EngineTime]", threads: int, repeats: int) -> None:
    print_table(
        ("engine", "version", "ms", "spread", "time / ours", "status"),
        [
            (
                row.engine,
                row.version,
                None if row.median_ms is None else f"{row.median_ms:.3f}",
                None if row.spread is None else f"{row.spread:.0%}",
                None if row.ratio is None else f"{row.ratio:.2f}",
                f"{row.status}: {row.detail}" if row.detail else row.status,
            )
            for row in rows
        ],
        title=f"{threads} thread{'s' if threads > 1 else ''}, median of {repeats} turns",
    )
