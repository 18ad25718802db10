"""``fastconv run``: arrays through a compiled file."""

from typing import Annotated

import typer

from .arguments import Compiled, Json, Threads
from .output import print_facts, print_json


def run_verb(
    model: Compiled,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="A .npy file per input, in order, or one .npz file."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Where the outputs go: .npy for a single one, or .npz."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Run the input bundled in the file and compare its output.")
    ] = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Run a compiled model on arrays, or on the input that it carries."""
    from tvm_fastconv.artifact.artifact import check_output_path
    from tvm_fastconv.runtime.array_files import check_output_suffix, read_inputs, write_outputs
    from tvm_fastconv.runtime.compiled_model import load

    if check == bool(input_) or bool(input_) != bool(output):
        raise typer.BadParameter("give --input together with --output, or --check alone")
    loaded = load(model, threads=threads)
    if check:
        facts: dict[str, object] = {"file": model, "largest_relative_error": loaded.check()}
    else:
        assert input_ is not None
        assert output is not None
        check_output_suffix(output, loaded.manifest.outputs)
        check_output_path(output)
        outputs = loaded(*read_inputs(input_, loaded.manifest.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        write_outputs(output, outputs, loaded.manifest.outputs)
        facts = {"file": output} | {
            spec.name: list(array.shape) for spec, array in zip(loaded.manifest.outputs, outputs, strict=True)
        }
    print_json(facts) if json else print_facts(facts)
