"""The training loop.

Nothing that is drawn depends on what was drawn before: the order of the images, augmentation and dropout come from the
seed, the epoch and the step alone. So a training that was cut off anywhere goes on from its last checkpoint to the very
weights that it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tvm_fastconv.errors import MethodError, TrainError
from tvm_fastconv.notices import notify

from ..compress import penalty
from ..data import Data, as_floats
from ..layers.binary_layers import BinaryWeights
from ..layers.xnor_products import use_xnor_
from ..structure import structure_of
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .evaluate import BATCH, scores
from .fabric import start_processes
from .folders import alone_in
from .logs import Logs
from .loss import Loss
from .optimizers import make_optimizer
from .progress import advance_, is_settled
from .resumable import check_resumable, densities_of
from .settings import Settings
from .synced_batch_norm import synchronize_batch_norms_

LAST, BEST = "last.ckpt", "best.ckpt"
SHOWN = 64
"""Images whose activations are shown."""


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes
    ----------
    model : nn.Module
        As it is tested and exported, in eval mode.
    history : list of dict
        One row of metrics for each epoch, see `Logs`.
    """

    model: nn.Module
    history: list[dict[str, float]]


def train(
    model: nn.Module,
    data: Data,
    settings: Settings,
    *,
    network: dict[str, Any] | None = None,
    out: Path | None = None,
    resume: bool = False,
    teacher: nn.Module | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train ``model`` in place on ``data``.

    Parameters
    ----------
    model, data, settings
        With several processes the batch norms of ``model`` become `SyncedBatchNorm`.
    network
        What `make_model` makes the network of, for the checkpoint.
    out
        Folder for ``last.ckpt`` and ``best.ckpt`` (of the highest accuracy on the test images, once layers are as
        sparse as they are to be, and in bits), ``metrics.csv``, events of TensorBoard and ``curves.png``. Without it
        nothing is written.
    resume
        Go on from ``last.ckpt`` in ``out``, if it is there.
    teacher
        A network whose scores ``settings.distillation`` of the loss is to come near.
    progress
        Called with one line every now and then.

    Raises
    ------
    TrainError
        There are fewer images than in a batch, or the checkpoint is another training's.
    """
    loop = _Loop(model, data, settings, network or {}, out, teacher, progress)
    if resume and out is not None and (out / LAST).exists():
        loop.restore(load_checkpoint(out / LAST))
    elif out is not None and (out / LAST).exists():
        raise TrainError(f"{out} holds a training already; resume it, or give another folder")
    return loop.run()


class _Loop:
    """One process of a training."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: Settings,
        network: dict[str, Any],
        out: Path | None,
        teacher: nn.Module | None,
        progress: Callable[[str], None],
    ) -> None:
        self.settings, self.data, self.network, self.out = settings, data, network, out
        self.fabric = start_processes(settings)
        self.progress = progress if self.fabric.is_global_zero else lambda text: None
        self.batches = data.batches(
            batch_size=settings.batch_size,
            seed=settings.seed,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            augmentation=settings.augmentation,
        )
        if not len(self.batches):
            raise TrainError(
                f"{data.name} has {data.count} images to train on, and a batch is {settings.batch_size}"
            )
        if self.fabric.world_size > 1:
            synchronize_batch_norms_(model)
        bits = any(isinstance(part, BinaryWeights) for part in model.modules())
        for name in ("xnor", "progressive"):
            if getattr(settings, name) and not bits:
                raise TrainError(
                    f"{name} is for binary layers, and the network has none; give it --method binary"
                )
        if settings.xnor:
            _use_xnor(model)
        self.model = model.train()
        self.wrapped, self.optimizer = self.fabric.setup(model, make_optimizer(model, settings))
        self.average = _average(model, settings)
        self.loss = Loss(settings, None if teacher is None else teacher.to(self.fabric.device))
        self.logs = Logs(
            out if self.fabric.is_global_zero else None,
            lambda: torch.from_numpy(as_floats(data.examples(SHOWN))),
        )
        self.epoch, self.batch, self.best = 0, 0, -1.0

    def run(self) -> Trained:
        """To the end."""
        folder = self.out if self.fabric.is_global_zero else None
        with torch.random.fork_rng(), alone_in(folder):  # the caller's random numbers are not ours
            while self.epoch < self.settings.epochs:
                self._run_epoch()
        self.logs.close()
        model = self.model if self.average is None else self.average.module
        return Trained(model.eval(), self.logs.history)

    def _run_epoch(self) -> None:
        settings, steps = self.settings, len(self.batches)
        start, begun = self.batch, time.perf_counter()
        if not start:
            self.logs.begin_epoch()
        for images, labels in self.batches.epoch(self.epoch, start):
            step = self.epoch * steps + self.batch
            advance_(self.model, settings, self.epoch / settings.epochs)
            torch.manual_seed((settings.seed << 32) + step)  # of dropout, should there be any
            self._step(images, labels, settings.rate(step, settings.epochs * steps, steps))
            self.batch += 1
            self._tell(start, begun)
            if (
                settings.checkpoint_every
                and self.batch < steps
                and self.batch % settings.checkpoint_every == 0
            ):
                self.logs.average(self.fabric.all_reduce)
                self._save(LAST)
        advance_(self.model, settings, (self.epoch + 1) / settings.epochs)
        speed = (steps - start) * settings.batch_size / (time.perf_counter() - begun)
        self.epoch, self.batch = self.epoch + 1, 0
        self._finish_epoch(speed)

    def _step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad()
        parts, device = self.settings.accumulate, self.fabric.device
        for number, (x, y) in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True), 1):
            with self.fabric.no_backward_sync(self.wrapped, enabled=number < parts):
                loss = self.loss(self.wrapped, x.to(device), y.to(device)) + penalty(self.model)
                self.fabric.backward(loss / parts)
                self.logs.add_loss(loss.detach())
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _finish_epoch(self, speed: float) -> None:
        self.logs.average(self.fabric.all_reduce)
        if not math.isfinite(self.logs.loss):
            raise TrainError(
                f"the loss is {self.logs.loss} in epoch {self.epoch}; try a lower learning rate, or a warm-up"
            )
        if self.fabric.is_global_zero:
            self._test(speed)

    def _test(self, speed: float) -> None:
        tested = self.model if self.average is None else self.average.module
        found = scores(tested, self.data.test_batches(BATCH))
        rate = self.optimizer.param_groups[0]["lr"]
        self.logs.add_epoch(self.epoch, found, self.model, rate, speed)
        self.progress(
            f"tested after epoch {self.epoch} of {self.settings.epochs}, loss "
            f"{self.logs.history[-1]['train_loss']:.4f}, {100 * found.top1:.2f} % right, {speed:.0f} images/s"
        )
        settled = is_settled(self.model, self.settings, self.epoch / self.settings.epochs)
        better = settled and found.top1 > self.best
        self.best = found.top1 if better else self.best
        self._save(LAST)
        if better:
            self._save(BEST)

    def _tell(self, start: int, begun: float) -> None:
        steps, passed = len(self.batches), time.perf_counter() - begun
        done = self.batch - start
        left = (self.settings.epochs * steps - self.epoch * steps - self.batch) * passed / done
        speed = done * self.settings.batch_size / passed
        self.progress(
            f"epoch {self.epoch + 1} of {self.settings.epochs}: step {self.batch} of {steps}, {speed:.0f} images/s, "
            f"{left:.0f} s left"
        )

    def _save(self, name: str) -> None:
        """Everything that going on takes, if this is the process that writes."""
        if self.out is None or not self.fabric.is_global_zero:
            return
        tested = self.model if self.average is None else self.average.module
        training = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "logs": self.logs.state,
            "densities": densities_of(self.model),
            **{"epoch": self.epoch, "batch": self.batch, "best": self.best},
        }
        checkpoint = Checkpoint(
            data=self.data.name,
            network=self.network,
            structure=structure_of(self.model),
            state=tested.state_dict(),
            settings=self.settings.as_dict(),
            training=training,
            history=self.logs.history,
        )
        save_checkpoint(checkpoint, self.out / name)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``.

        Raises
        ------
        TrainError
            It is of another network, other data or other settings.
        """
        checkpoint.load_into(self.model)  # or says that it is of another network
        check_resumable(checkpoint, self.data.name, self.settings, self.model)
        training = checkpoint.training
        self.model.load_state_dict(training["model"])
        self.optimizer.optimizer.load_state_dict(training["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(training["average"])
        self.epoch, self.batch, self.best = training["epoch"], training["batch"], training["best"]
        self.logs.restore(checkpoint.history, training["logs"])


def _use_xnor(model: nn.Module) -> None:
    try:
        use_xnor_(model)
    except MethodError as error:
        notify(f"{error}; until then binary layers train on PyTorch alone")


def _average(model: nn.Module, settings: Settings) -> AveragedModel | None:
    if not settings.ema:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
