"""``fastconv demo``: train a digit classifier, compile it, classify real handwriting with the file."""

from typing import Annotated

import typer

from .arguments import Json
from .output import print_json, print_line, print_table, progress


def demo_verb(
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Keep the compiled classifier here.")
    ] = None,
    json: Json = False,
) -> None:
    """Train on scikit-learn's handwritten digits, compile, and compare accuracy and speed with PyTorch."""
    from tvm_fastconv.artifact.artifact import check_output_path

    if output is not None:
        check_output_path(output)
    with progress("loading PyTorch and TVM") as show:
        from tvm_fastconv.demo import THREADS, run_demo

        rows = run_demo(save_to=output, progress=show)
    if json:
        print_json(rows)
        return
    rivals = [time.engine for time in rows[0].times[1:]]
    print_table(
        (
            "method",
            "accuracy PyTorch",
            "accuracy compiled",
            "ms per image",
            *(f"vs {name}" for name in rivals),
        ),
        [
            (
                row.method,
                f"{row.accuracy_torch:.2%}",
                f"{row.accuracy_compiled:.2%}",
                None if row.times[0].median_ms is None else f"{row.times[0].median_ms:.4f}",
                *(None if time.ratio is None else f"{time.ratio:.2f}x" for time in row.times[1:]),
            )
            for row in rows
        ],
        title=f"held-out handwritten digits, one image at a time, {THREADS} thread (vs: their time over ours)",
    )
    for time in rows[0].times:
        if time.status != "ok":
            print_line(f"{time.engine}: {time.status}: {time.detail}")
