"""Training a classifier of images, on one core or many machines, resumable at every step, on Lightning Fabric."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .export import export_checkpoint
from .job import Job, run_job
from .settings import Settings
from .train import Trained, train

__all__ = [
    "Checkpoint",
    "Job",
    "Settings",
    "Trained",
    "export_checkpoint",
    "load_checkpoint",
    "run_job",
    "save_checkpoint",
    "train",
]
