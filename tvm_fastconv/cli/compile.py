"""``fastconv compile``: a model becomes one file."""

import math
import os
import time
from enum import Enum
from typing import Annotated, Any

import typer

from .arguments import AllowTf32, Json, Model, RecordedThreads, Shapes, WeightGrowth, parse_shape
from .output import print_facts, print_json, progress


class Emit(str, Enum):
    """What a model is compiled to."""

    LIBRARY = "library"
    C_LIBRARY = "c-library"


def compile_verb(
    model: Model,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file to write, such as model.so; a C library's folder.")
    ],
    target: Annotated[
        str,
        typer.Option(help="native, an LLVM triple, cuda, a TVM tag or a measured machine; see targets."),
    ] = "native",
    machine: Annotated[
        str | None,
        typer.Option(help="A file of fastconv targets --measure, for the processor of the target."),
    ] = None,
    shape: Shapes = None,
    methods: Annotated[
        str | None, typer.Option(help="A TOML file of patterns over layer names and methods.")
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(help="A file of fastconv tune; may be given more than once. Also: FASTCONV_RECORDS."),
    ] = None,
    threads: RecordedThreads = None,
    weight_growth: WeightGrowth = math.inf,
    allow_tf32: AllowTf32 = False,
    verify: Annotated[bool, typer.Option(help="Compare with the source model after building.")] = True,
    cc: Annotated[
        str | None,
        typer.Option(help="The C compiler's command; by default CC, the system's, a cross gcc or zig."),
    ] = None,
    emit: Annotated[
        Emit, typer.Option(help="A library for TVM's runtime, or one in C that needs nothing.")
    ] = Emit.LIBRARY,
    name: Annotated[
        str | None,
        typer.Option(help="Of the C library: lib<name>.a, <name>.h, <name>_run; by default model."),
    ] = None,
    separate_weights: Annotated[
        bool, typer.Option("--separate-weights", help="Write the C library's weights to a file to be mapped.")
    ] = False,
    dump_ir: Annotated[str | None, typer.Option(help="Folder for the graph after every pass.")] = None,
    keep_cuda: Annotated[
        str | None, typer.Option(help="Folder for the CUDA source, where the target is a GPU.")
    ] = None,
    json: Json = False,
) -> None:
    """Compile a model to one file: code, weights and a description of both."""
    from tvm_fastconv.artifact.artifact import check_output_path
    from tvm_fastconv.errors import ArtifactError
    from tvm_fastconv.report import TensorSpec
    from tvm_fastconv.runtime.array_files import random_inputs

    if emit is Emit.LIBRARY:
        if name is not None or separate_weights:
            raise typer.BadParameter("--name and --separate-weights are of --emit c-library")
        check_output_path(output)
    elif keep_cuda is not None or allow_tf32:
        option = "--allow-tf32" if keep_cuda is None else "--keep-cuda"
        raise typer.BadParameter(f"{option} is not of --emit c-library, which is for CPUs")
    if os.path.exists(output) and os.path.exists(model) and os.path.samefile(model, output):
        raise ArtifactError(f"the output {output} is the model itself; give another name, such as model.so")
    specs = [TensorSpec(name=text, shape=parse_shape(text), dtype="float32") for text in shape or ()]
    start = time.perf_counter()
    with progress("loading the compiler") as show:
        from tvm_fastconv.c_library import compile_c_library
        from tvm_fastconv.cli.method_files import read_methods
        from tvm_fastconv.compiler import compile

        asked: dict[str, Any] = {
            "target": target,
            "machine": machine,
            "methods": None if methods is None else read_methods(methods),
            "records": records or None,
            "threads": threads,
            "weight_growth": weight_growth,
            "verify": verify,
            "dump_ir": dump_ir,
            "cc": cc,
            "progress": show,
        }
        inputs = random_inputs(specs) or None
        files = [output]
        if emit is Emit.C_LIBRARY:
            asked |= {"folder": output, "name": name or "model", "separate_weights": separate_weights}
            made = compile_c_library(model, inputs, **asked)
            manifest, files = made.manifest, list(map(str, made.files))
        else:
            compiled = compile(model, inputs, keep_cuda=keep_cuda, allow_tf32=allow_tf32, **asked)
            compiled.save(output)
            manifest = compiled.manifest
    facts = {
        **{f"file {i}" if i else "file": file for i, file in enumerate(files)},
        "bytes": sum(os.path.getsize(file) for file in files),
        "layers": len(manifest.layers),
        "target": manifest.target,
        "verify": manifest.verify,
        "seconds": round(time.perf_counter() - start, 2),
    }
    print_json(facts) if json else print_facts(facts)
