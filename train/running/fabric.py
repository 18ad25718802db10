"""The processes of a training, by Lightning's Fabric."""

from typing import Any

from tvm_fastconv.errors import TrainError, quoted

from .settings import Settings


def start_processes(settings: Settings) -> Any:
    """Start them, or find those that torchrun or SLURM started; returns a ``lightning_fabric.Fabric``.

    Raises
    ------
    TrainError
        Lightning is not installed, or there are other processes than were asked for.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise TrainError(
            "training runs on Lightning, which is not installed; run: pip install 'tvm-fastconv[train]'"
        ) from None
    several = settings.devices * settings.nodes > 1
    precision: Any = settings.precision
    try:
        fabric = Fabric(
            accelerator="auto",
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision=precision,
            strategy="ddp" if several else "auto",
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:  # such as a cluster's job of another number of processes
        raise TrainError(f"the processes cannot be started: {quoted(error)}") from None
    return fabric
