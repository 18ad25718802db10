"""``fastconv deploy``: a folder that runs a network on a device."""

import math
import shlex
from typing import Annotated

import typer

from .arguments import Json, Model, RecordedThreads, Shapes, WeightGrowth, parse_shape
from .output import print_facts, print_json, progress


def deploy_verb(
    model: Model,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The folder to write, which is not there yet.")
    ],
    name: Annotated[str, typer.Option(help="Of the network, its library and its programs.")] = "model",
    target: Annotated[str, typer.Option(help="As for compile.")] = "native",
    machine: Annotated[str | None, typer.Option(help="As for compile.")] = None,
    shape: Shapes = None,
    methods: Annotated[
        str | None, typer.Option(help="A TOML file of patterns over layer names and methods.")
    ] = None,
    records: Annotated[list[str] | None, typer.Option(help="A file of fastconv tune.")] = None,
    threads: RecordedThreads = None,
    weight_growth: WeightGrowth = math.inf,
    tvm_runtime: Annotated[
        bool,
        typer.Option(help="For TVM's runtime, which comes along, instead of a C library: dynamic batches."),
    ] = False,
    cc: Annotated[str | None, typer.Option(help="As for compile.")] = None,
    json: Json = False,
) -> None:
    """Compile a model to a C library, or for TVM's runtime, with programs in C, C++ and Python that run it."""
    from tvm_fastconv.report import TensorSpec
    from tvm_fastconv.runtime.array_files import random_inputs

    specs = [TensorSpec(name=text, shape=parse_shape(text), dtype="float32") for text in shape or ()]
    with progress("loading the compiler") as show:
        from tvm_fastconv.cli.method_files import read_methods
        from tvm_fastconv.deployment import deploy

        kit = deploy(
            model,
            random_inputs(specs) or None,
            folder=output,
            name=name,
            target=target,
            machine=machine,
            methods=None if methods is None else read_methods(methods),
            records=records or None,
            threads=threads,
            weight_growth=weight_growth,
            tvm_runtime=tvm_runtime,
            cc=cc,
            progress=show,
        )
    place = shlex.quote(f"./{output}" if output.startswith("-") else output)
    build = f"cmake -S . -B build && cmake --build build && build/{name} check"
    facts = {
        "kit": str(kit.folder),
        "target": kit.manifest.target,
        "verify": kit.manifest.verify,
        "next": f"cd {place} && {build}"
        if kit.compiled.runs_here
        else f"copy the folder to the device; there, in it: {build}",
    }
    print_json(facts) if json else print_facts(facts)
