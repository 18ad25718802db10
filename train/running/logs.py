"""What a training leaves for people to read: a table, events of TensorBoard, a picture of the curves."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_fastconv.errors import TrainError

from ..calibration import inputs_of
from ..layers.binary_layers import BinaryWeights
from ..layers.sparse_weights import SparseWeights
from .evaluate import Scores

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
"""What activations are shown of: the inputs of these, binary ones among them."""


class Logs:
    """The metrics of one training, written into a folder after every epoch, if there is one.

    Parameters
    ----------
    folder : path, optional
    examples : callable
        Images (N, C, H, W) whose activations are shown in histograms; called once, if they are.

    Attributes
    ----------
    history : list of dict
        For every epoch ``epoch``, ``train_loss``, ``test_loss``, ``top1``, ``top5``, ``learning_rate``,
        ``images_per_second``, ``density/<layer>`` of lookups and ``flips/<layer>``, the share of binary weights that
        changed sign.
    """

    def __init__(self, folder: Path | None, examples: Callable[[], torch.Tensor]) -> None:
        self.folder, self._examples = folder, cache(examples)
        self.history: list[dict[str, float]] = []
        self._sum, self._count = torch.zeros(()), 0
        self._signs: dict[str, torch.Tensor] = {}
        self._events: Any = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:
                raise TrainError(f"{folder} cannot be written to: {error}") from None

    @property
    def state(self) -> dict[str, Any]:
        """What is known of the epoch that runs: the losses, and the signs of binary weights where it began."""
        return {"sum": float(self._sum), "count": self._count, "signs": self._signs}

    def restore(self, history: list[dict[str, float]], state: dict[str, Any]) -> None:
        """Go on behind ``history``, in an epoch with this `state`."""
        self.history = list(history)
        self._sum, self._count = torch.tensor(state["sum"]), state["count"]
        self._signs = state["signs"]

    @property
    def loss(self) -> float:
        """The mean in this epoch."""
        return float(self._sum) / max(1, self._count)

    def begin_epoch(self) -> None:
        """Forget the losses of the last."""
        self._sum, self._count = torch.zeros(()), 0

    def add_loss(self, loss: torch.Tensor) -> None:
        """Of one part of a batch."""
        self._sum = self._sum + loss.cpu()
        self._count += 1

    def average(self, mean: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Put the ``mean`` over all processes in the place of this one's losses."""
        self._sum = mean(self._sum)

    def add_epoch(self, epoch: int, found: Scores, model: nn.Module, rate: float, speed: float) -> None:
        """Close an epoch, and write what is known."""
        row = {
            "epoch": epoch,
            "train_loss": self.loss,
            "test_loss": found.loss,
            "top1": found.top1,
            "top5": found.top5,
            "learning_rate": rate,
            "images_per_second": speed,
            **self._of_layers(model),
        }
        self.history.append(row)
        if self.folder is not None:
            try:
                self._write_table(self.folder / "metrics.csv")
                self._write_events(row, model)
            except OSError as error:
                raise TrainError(f"{self.folder} cannot be written to: {error.strerror or error}") from None

    def close(self) -> None:
        """Draw the curves, and flush what is open."""
        if self._events is not None:
            self._events.close()
        if self.folder is not None and self.history:
            draw_curves(self.history, self.folder / "curves.png")

    def _of_layers(self, model: nn.Module) -> dict[str, float]:
        found = {}
        for name, part in model.named_modules():
            if isinstance(part, SparseWeights):
                found[f"density/{name}"] = part.density
            if isinstance(part, BinaryWeights):
                signs = part.weight.detach() >= 0
                before = self._signs.get(name)
                self._signs[name] = signs
                if before is not None:
                    found[f"flips/{name}"] = float((signs != before).float().mean())
        return found

    def _write_table(self, path: Path) -> None:
        names = dict.fromkeys(name for row in self.history for name in row)
        part = path.with_name(f".{path.name}.part")
        with open(part, "w", newline="") as file:
            table = csv.DictWriter(file, list(names))
            table.writeheader()
            table.writerows(self.history)
        os.replace(part, path)

    def _write_events(self, row: dict[str, float], model: nn.Module) -> None:
        if self._events is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:  # a table and a picture are there without it
                return
            self._events = SummaryWriter(self.folder)
        step = int(row["epoch"])
        for name, value in row.items():
            self._events.add_scalar(name, value, step)
        for name, parameter in model.named_parameters():
            self._events.add_histogram(f"weights/{name}", parameter.detach().float(), step)
            if parameter.grad is not None:
                self._events.add_histogram(f"gradients/{name}", parameter.grad.float(), step)
        layers = {name: part for name, part in model.named_modules() if isinstance(part, LAYERS)}
        examples = self._examples().to(next(model.parameters()))
        for name, inputs in inputs_of(model, layers, examples).items():
            self._events.add_histogram(f"activations/{name}", inputs.float(), step)
            part = layers[name]
            if isinstance(part, BinaryWeights):
                with torch.no_grad():
                    rounded = part.quantized_weight(), part.quantized_input(inputs)
                self._events.add_histogram(f"quantized_weights/{name}", rounded[0].float(), step)
                self._events.add_histogram(f"quantized_activations/{name}", rounded[1].float(), step)


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Losses and accuracies over the epochs, as a PNG; nothing where Matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, names in ((losses, ("train_loss", "test_loss")), (accuracies, ("top1", "top5"))):
        for name in names:
            axes.plot(epochs, [row[name] for row in history], marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png", dpi=120)
    os.replace(part, path)
