"""``fastconv train``: a network of any structure, on one machine or, under torchrun or SLURM, on many."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .output import print_table, progress
from .signals import keeping


def train_verb(
    data: Annotated[
        str,
        typer.Argument(help="digits, mnist, fashion-mnist, cifar10, cifar100, a folder, or owner/name."),
    ],
    network: Annotated[str, typer.Argument(help="A network, such as lenet5; any other name lists them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, metrics and curves.")],
    method: Annotated[str | None, typer.Option(help="A preset: lcnn-fast, binary, fac, ...")] = None,
    methods: Annotated[
        str | None, typer.Option(help="A TOML file of patterns over layer names and methods.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Of the network, such as width=0.5; may be given more than once.")
    ] = None,
    compress_from: Annotated[
        str | None, typer.Option(help="A checkpoint of a dense network to compress and train on.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="A checkpoint of a network to distil from.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the last checkpoint in the folder, if any.")
    ] = False,
    size: Annotated[int | None, typer.Option(help="Height and width to bring images to.")] = None,
    streaming: Annotated[
        bool, typer.Option(help="Read the data set from the hub while it is trained on.")
    ] = False,
    epochs: int = 10,
    batch_size: Annotated[int, typer.Option(help="Images per step, of all processes together.")] = 128,
    accumulate: Annotated[int, typer.Option(help="Parts in which each process runs its share.")] = 1,
    optimizer: Annotated[str, typer.Option(help="adam, adamw or sgd.")] = "adam",
    learning_rate: float = 3e-3,
    reference_batch: Annotated[
        int | None,
        typer.Option(help="The learning rate is for this batch size, and scaled to the one given."),
    ] = None,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: Annotated[str, typer.Option(help="cosine, steps or constant.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Epochs of rising learning rate.")] = 0.0,
    label_smoothing: float = 0.0,
    ema: Annotated[float, typer.Option(help="Decay of an average over the steps; 0 for none.")] = 0.0,
    distillation: Annotated[float, typer.Option(help="The teacher's share of the loss.")] = 0.5,
    progressive: Annotated[
        bool, typer.Option(help="From floats to binary inputs to binary weights.")
    ] = False,
    xnor: Annotated[bool, typer.Option(help="Binary layers run forward on compiled kernels.")] = False,
    crop: Annotated[int, typer.Option(help="Pixels that images are shifted by at random.")] = 0,
    flip: Annotated[bool, typer.Option(help="Mirror every second image.")] = False,
    erase: Annotated[int, typer.Option(help="Side of a square that is erased at random.")] = 0,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed or 64-true.")] = "32-true",
    devices: Annotated[int, typer.Option(help="Processes on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    checkpoint_every: Annotated[int, typer.Option(help="Steps; 0 for the ends of epochs alone.")] = 0,
    seed: int = 0,
) -> None:
    """Train a network, and write its checkpoints, metrics and curves into a folder."""
    from tvm_fastconv.errors import TrainError

    if method is not None and methods is not None:
        raise TrainError("both --method and --methods are given; allowed: one of them")
    with progress("loading PyTorch") as show:
        from tvm_fastconv.train.data.augment import Augmentation
        from tvm_fastconv.train.running import Job, Settings, run_job

        from .method_files import read_methods

        settings = Settings(
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            optimizer=optimizer,
            learning_rate=learning_rate,
            reference_batch=reference_batch,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
            label_smoothing=label_smoothing,
            ema=ema,
            distillation=distillation,
            progressive=progressive,
            xnor=xnor,
            precision=precision,
            devices=devices,
            nodes=nodes,
            checkpoint_every=checkpoint_every,
            seed=seed,
            augmentation=Augmentation(crop=crop, flip=flip, erase=erase),
        )
        job = Job(
            data=data,
            network=network,
            options=dict(map(_parse_option, option or ())),
            methods=method if methods is None else read_methods(methods),
            settings=settings,
            size=size,
            streaming=streaming,
            compress_from=compress_from,
            teacher=teacher,
        )
        with keeping(f"--resume goes on from the last checkpoint in {out}"):
            trained = run_job(job, out=out, resume=resume, progress=show)
    rows = [
        [int(row["epoch"]), *(f"{row[name]:.4f}" for name in ("train_loss", "test_loss", "top1", "top5"))]
        for row in trained.history
    ]
    if rows:  # of several processes one has them
        print_table(["epoch", "train loss", "test loss", "top 1", "top 5"], rows)


def _parse_option(text: str) -> tuple[str, Any]:
    """``width=0.5`` as a name and a number, a truth or a text."""
    from tvm_fastconv.errors import TrainError

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise TrainError(f"--option {text!r} is no option; write name=value, such as width=0.5")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
