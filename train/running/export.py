"""From a checkpoint to a program that holds what inference needs and nothing else."""

import os
from pathlib import Path

import torch
from torch.export import ExportedProgram

from .checkpoint import load_checkpoint


def exported(path: str | os.PathLike[str]) -> ExportedProgram:
    """The network in the checkpoint ``path``, on one image of zeros.

    Raises
    ------
    TrainError
        It is no checkpoint, or is of a network that its maker built.
    """
    checkpoint = load_checkpoint(path)
    model, network = checkpoint.model(), checkpoint.network
    image = torch.zeros(1, network["channels"], network["size"], network["size"])
    return torch.export.export(model, (image,))


def export_checkpoint(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the network in the checkpoint ``path`` as ``output``, a ``.pt2`` file.

    Raises
    ------
    TrainError
        See `exported`.
    """
    program, target = exported(path), Path(output)
    part = target.with_name(f".{target.name}.part.pt2")  # one name: what a kill left is written over
    try:
        torch.export.save(program, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
