"""A whole training from names: data set, network, methods, settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_fastconv.errors import TrainError
from tvm_fastconv.method_patterns import Methods

from ..compress import compress_
from ..data import Data, load_data, stream_data
from ..data.floats import as_floats
from ..models import make_model, preset_methods
from .checkpoint import Checkpoint, load_checkpoint
from .settings import Settings
from .train import Trained, train

CALIBRATION = 512
"""Images that batch norms and steps are fitted to when a dense network is compressed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained.

    Attributes
    ----------
    data : str
        See `load_data`.
    network : str
        See `make_model`; not used with ``compress_from``.
    options : dict
        Of the network, as ``width``.
    methods : config, mapping or str, optional
        See `compress_`, or the name of a preset.
    settings : Settings
    size : int, optional
        Height and width to bring images to.
    streaming : bool
        Read the data set from the hub while it is trained on, each process its share.
    compress_from : path, optional
        A checkpoint of a dense network, whose layers the methods are applied to before it is trained on.
    teacher : path, optional
        A checkpoint of a network to distil from.
    """

    data: str
    network: str
    options: dict[str, Any] = field(default_factory=dict)
    methods: Methods | str | None = None
    settings: Settings = field(default_factory=Settings)
    size: int | None = None
    streaming: bool = False
    compress_from: str | os.PathLike[str] | None = None
    teacher: str | os.PathLike[str] | None = None


def run_job(
    job: Job,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Load the data, make the network, train it; see `train`.

    Raises
    ------
    FastconvError
        Something that the job names is not there, or does not fit the rest.
    """
    progress(f"loading {job.data}")
    data = stream_data(job.data, job.size) if job.streaming else load_data(job.data, job.size)
    if job.size not in (None, data.size):
        raise TrainError(
            f"{job.data} has images of {data.size}×{data.size}, which stay so; size is {job.size}"
        )
    torch.manual_seed(job.settings.seed)
    model, network = _network(job, data, progress)
    teacher = None if job.teacher is None else _suited(job.teacher, "the teacher", data).model()
    return train(
        model, data, job.settings, network=network, out=out, resume=resume, teacher=teacher, progress=progress
    )


def _network(job: Job, data: Data, progress: Callable[[str], None]) -> tuple[nn.Module, dict[str, Any]]:
    """The network to train, and what `make_model` makes its dense form of."""
    sizes = _sizes(data)
    if job.compress_from is None:
        if fixed := {"name", "methods", *sizes} & job.options.keys():
            raise TrainError(
                f"{min(fixed)!r} is no option of a network; allowed: what its class takes beside"
            )
        network = {"name": job.network, **sizes, **job.options}
        return make_model(**network, methods=job.methods), network
    if job.methods is None:
        raise TrainError("a network to compress is given, and no methods; give a preset or a file of methods")
    checkpoint = _suited(job.compress_from, "the network to compress", data)
    model = checkpoint.model().train()
    methods = preset_methods(job.methods, model) if isinstance(job.methods, str) else job.methods
    images = torch.from_numpy(as_floats(data.examples(CALIBRATION)))
    compress_(model, methods, images, progress=progress)
    return model, checkpoint.network


def _sizes(data: Data) -> dict[str, int]:
    return {"classes": data.classes, "channels": data.channels, "size": data.size}


def _suited(path: str | os.PathLike[str], what: str, data: Data) -> Checkpoint:
    """A checkpoint of a network for images and classes like those of ``data``."""
    checkpoint, sizes = load_checkpoint(path), _sizes(data)
    if {name: checkpoint.network.get(name) for name in sizes} != sizes:
        raise TrainError(
            f"{what} is for {checkpoint.data}, whose images or classes are other than {data.name}'s"
        )
    return checkpoint
