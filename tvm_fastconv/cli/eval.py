"""``fastconv eval``: accuracy of a compiled file on a data set."""

from typing import Annotated

import typer

from .arguments import Compiled, Json, Threads
from .output import print_facts, print_json, progress


def eval_verb(
    model: Compiled,
    data: Annotated[str, typer.Option(help="The data set: digits, mnist, fashion-mnist, ..., or a folder.")],
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure the accuracy of a compiled model on a data set."""
    from tvm_fastconv.measure.evaluate import evaluate
    from tvm_fastconv.runtime.compiled_model import load

    loaded = load(model, threads=threads)
    with progress(f"classifying {data}"):
        result = evaluate(loaded, data)
    facts = {
        "data": result.data,
        "images": result.images,
        "correct": result.correct,
        "accuracy": round(result.accuracy, 4),
        "milliseconds_per_image": round(result.milliseconds_per_image, 4),
    }
    print_json(facts) if json else print_facts(facts)
