"""``fastconv compile``: a model becomes one file."""

import os
import time
from typing import Annotated

import typer

from .arguments import Json, Model, Shapes, Threads, parse_shape
from .output import print_facts, print_json, progress


def compile_verb(
    model: Model,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write, such as model.so.")],
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
    threads: Threads = None,
    verify: Annotated[bool, typer.Option(help="Compare with the source model after building.")] = True,
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

    check_output_path(output)
    if os.path.exists(output) and os.path.exists(model) and os.path.samefile(model, output):
        raise ArtifactError(f"the output {output} is the model itself; give another name, such as model.so")
    specs = [TensorSpec(name=text, shape=parse_shape(text), dtype="float32") for text in shape or ()]
    start = time.perf_counter()
    with progress("loading the compiler") as show:
        from tvm_fastconv.cli.method_files import read_methods
        from tvm_fastconv.compiler import compile

        compiled = compile(
            model,
            random_inputs(specs) or None,
            target=target,
            machine=machine,
            methods=None if methods is None else read_methods(methods),
            records=records or None,
            threads=threads,
            verify=verify,
            dump_ir=dump_ir,
            keep_cuda=keep_cuda,
            progress=show,
        )
        compiled.save(output)
    manifest = compiled.manifest
    facts = {
        "file": output,
        "bytes": manifest.file_size,
        "layers": len(manifest.layers),
        "target": manifest.target,
        "verify": manifest.verify,
        "seconds": round(time.perf_counter() - start, 2),
    }
    print_json(facts) if json else print_facts(facts)
