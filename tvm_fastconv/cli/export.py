"""``fastconv export``: a checkpoint becomes a program for inference."""

import os
from typing import Annotated

import typer

from .output import print_facts, progress


def export_verb(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of fastconv train, best.ckpt.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write, such as model.pt2.")],
) -> None:
    """Write a trained network as a .pt2 file that holds what inference needs and nothing else."""
    from tvm_fastconv.artifact.artifact import check_output_path
    from tvm_fastconv.errors import TrainError

    check_output_path(output)
    if not output.endswith(".pt2"):
        raise TrainError(f"the output is {output}; allowed: a name that ends in .pt2")
    with progress("loading PyTorch"):
        from tvm_fastconv.train.running.export import export_checkpoint

        export_checkpoint(checkpoint, output)
    print_facts({"file": output, "bytes": os.path.getsize(output)})
