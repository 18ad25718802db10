"""``fastconv tune``: search for faster knobs on a device, and keep them in a file of records."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_fastconv.errors import InputError

from .arguments import AllowTf32, Json, Model, Secret, Shapes, parse_address, parse_shape, read_secret
from .output import live_table, progress
from .signals import keeping
from .tune_batches import batches
from .tune_output import print_found

if TYPE_CHECKING:
    from tvm_fastconv.autotune.rpc_runner import RPCRunner
    from tvm_fastconv.autotune.tasks import Tasks
    from tvm_fastconv.tuning import Tuning

COLUMNS = ("operator", "problem", "calls", "share", "trials", "default ms", "best ms", "times faster")
SHOWN = 15
"""Tasks in the table while it is live; what follows them takes little time."""


def tune_verb(
    model: Model,
    records: Annotated[str, typer.Option(help="The file of records to add to, such as records.jsonl.")],
    target: Annotated[
        str, typer.Option(help="What to compile for: this machine, or that of a batch.")
    ] = "native",
    machine: Annotated[str | None, typer.Option(help="A file of fastconv targets --measure.")] = None,
    shape: Shapes = None,
    methods: Annotated[
        str | None, typer.Option(help="A TOML file of patterns over layer names and methods.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Candidates to measure at most, in this run.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Time to search at most, in this run.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="To measure with; by default this machine's physical cores, 1 for another machine."
        ),
    ] = None,
    allow_tf32: AllowTf32 = False,
    rpc: Annotated[
        str | None, typer.Option(help="HOST:PORT of a tracker: tune on devices of fastconv serve.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="What those devices are called.")] = None,
    secret_file: Secret = None,
    export_batch: Annotated[
        str | None, typer.Option(help="Write candidates into this new folder, to be measured elsewhere.")
    ] = None,
    program: Annotated[
        bool, typer.Option(help="In a batch: a static program that measures, for a device without Python.")
    ] = False,
    import_batch: Annotated[
        str | None, typer.Option(help="Add the results.json that came back, before anything else.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    json: Json = False,
) -> None:
    """Tune a model on the device that will run it; compile takes what was found with --records.

    Whatever was measured is in the file at once: interrupted, the same command goes on from there.

    Where no network reaches the device, --export-batch writes candidates and what measures them there: a script, or a
    static program (--program). --import-batch takes what it brings back; both at once go on to the next batch.
    """
    if (rpc is None) != (key is None):
        raise InputError(
            "--rpc and --key belong together: where the tracker is, and which devices to ask it for"
        )
    if (export_batch or import_batch) and (rpc or seconds):
        raise InputError(
            "--export-batch and --import-batch measure nothing here: --rpc and --seconds say nothing to them"
        )
    if program and not export_batch:
        raise InputError("--program says how --export-batch measures; there is no --export-batch")
    from tvm_fastconv.report import TensorSpec
    from tvm_fastconv.runtime.array_files import random_inputs

    specs = [TensorSpec(name=text, shape=parse_shape(text), dtype="float32") for text in shape or ()]
    inputs = random_inputs(specs) or None
    with progress("loading the compiler"):
        from tvm_fastconv.cli.method_files import read_methods
        from tvm_fastconv.tuning import tune

        asked = None if methods is None else read_methods(methods)
    common: dict[str, Any] = {
        "records": records, "target": target, "machine": machine, "methods": asked, "allow_tf32": allow_tf32,
    }  # fmt: skip
    if export_batch or import_batch:
        batches(
            model,
            inputs,
            common | {"threads": threads},
            export_batch,
            import_batch,
            trials,
            seed,
            program,
            json,
        )
        return
    with progress("looking for the device"):
        runner = None if rpc is None or key is None else _remote(rpc, key, read_secret(secret_file), threads)
    start = time.monotonic()
    kept = f"what was measured is in {records}, and the same command goes on from there"
    with live_table(COLUMNS) as update, keeping(kept):

        def show(tasks: "Tasks") -> None:
            update(_rows(tasks)[:SHOWN], _total(tasks, start, seconds))

        found = tune(
            model, inputs, trials=trials, seconds=seconds, threads=threads, runner=runner, seed=seed, show=show,
            progress=lambda step: update([], step), **common,
        )  # fmt: skip
    print_found(_facts(found, records), found.verdicts, json)


def _remote(rpc: str, key: str, secret: str, threads: int | None) -> "RPCRunner":
    from tvm_fastconv.autotune.rpc_address import Address
    from tvm_fastconv.autotune.rpc_runner import RPCRunner

    return RPCRunner(Address(*parse_address(rpc), key, secret), threads or 1)


def _rows(tasks: "Tasks") -> list[tuple[object, ...]]:
    from tvm_fastconv.autotune.describe import describe

    total = tasks.seconds()
    return [
        (
            state.search.task.op, describe(state.search.task), state.calls,
            f"{state.calls * state.search.seconds / total:.0%}", len(state.search.times),
            f"{1e3 * state.default_seconds:.4f}", f"{1e3 * state.search.seconds:.4f}",
            f"{state.default_seconds / state.search.seconds:.2f}",
        )
        for state in tasks.running
        if state.search.times
    ]  # fmt: skip


def _total(tasks: "Tasks", start: float, seconds: float | None) -> str:
    default, best = tasks.seconds(default=True), tasks.seconds()
    left = "" if seconds is None else f", {max(0.0, seconds - (time.monotonic() - start)):.0f} s left"
    tried = sum(len(state.search.times) for state in tasks.states.values())
    times = (
        f"{1e3 * default:.3f} ms by default, {1e3 * best:.3f} ms at best"
        if best < float("inf")
        else "starting"
    )
    return f"all operators {times}; {tried} trials, {sum(tasks.failures.values())} failed{left}"


def _facts(found: "Tuning", records: str) -> dict[str, object]:
    kept = {verdict.task for verdict in found.verdicts if verdict.ratio != 1}
    kept -= {line.task for line in found.withdrawn}
    return {
        "records": records,
        "trials": found.trials,
        "faster than default": f"{len(kept)} of {len(found.verdicts)} problems",
        "slower in the model, withdrawn": len(found.withdrawn),
        "whole model, times faster": "not compared" if found.network is None else str(found.network),
    }
