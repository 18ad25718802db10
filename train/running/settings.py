"""How a network is trained: plain numbers and names, which a checkpoint keeps as they are."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from tvm_fastconv.errors import TrainError

from ..data.augment import NO_AUGMENTATION, Augmentation

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a training depends on beside the data and the network.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Images for each step of the optimizer, of all processes together.
    accumulate : int
        In so many parts each process runs its share of a batch, one after the other.
    optimizer : str
        ``adam``, ``adamw`` or ``sgd`` (with Nesterov's momentum).
    learning_rate : float
        At its highest.
    reference_batch : int, optional
        Scale the learning rate by ``batch_size / reference_batch`` (Goyal et al., arXiv:1706.02677, section 2.1).
    momentum, weight_decay : float
    schedule : str
        Of the learning rate: ``cosine`` to 0; ``steps``, by 10 after a half and after three quarters; ``constant``.
    warmup : float
        Epochs in which the learning rate rises linearly.
    label_smoothing : float
    ema : float
        Decay of an average over the steps, which is tested and exported; 0 for none.
    distillation : float
        Share of the loss that is the teacher's (Hinton et al., arXiv:1503.02531), if there is one.
    temperature : float
        Of both softmaxes in that share.
    progressive : bool
        Binary layers begin in floats, quantize their inputs from a third of the steps on, and their weights from
        two thirds on.
    xnor : bool
        Binary layers run forward on compiled kernels of packed bits, where TVM is installed.
    precision : str
        As Lightning calls it.
    devices, nodes : int
        Processes on each machine, and machines.
    checkpoint_every : int
        Steps; 0 for the ends of epochs alone.
    seed : int
        Of the order of the images, of augmentation and of dropout.
    augmentation : Augmentation
    """

    epochs: int = 10
    batch_size: int = 128
    accumulate: int = 1
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    reference_batch: int | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    distillation: float = 0.5
    temperature: float = 4.0
    progressive: bool = False
    xnor: bool = False
    precision: str = "32-true"
    devices: int = 1
    nodes: int = 1
    checkpoint_every: int = 0
    seed: int = 0
    augmentation: Augmentation = field(default=NO_AUGMENTATION)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "devices", "nodes"):
            self._check(name, isinstance(getattr(self, name), int) and getattr(self, name) >= 1, "1 or more")
        self._check("checkpoint_every", self.checkpoint_every >= 0, "0 or more")
        self._check("seed", 0 <= self.seed < 1 << 31, f"0 to {(1 << 31) - 1}")
        reference = self.reference_batch
        self._check("reference_batch", reference is None or reference >= 1, "1 or more")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        for name in ("warmup", "weight_decay"):
            self._check(name, 0 <= getattr(self, name) <= 1e6, "0 to 1e6")
        for name in ("momentum", "label_smoothing", "ema"):
            self._check(name, 0 <= getattr(self, name) < 1, "0 or more, below 1")
        self._check("distillation", 0 <= self.distillation <= 1, "0 to 1")
        self._check("temperature", self.temperature > 0, "above 0")
        self._check("optimizer", self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS))
        self._check("schedule", self.schedule in SCHEDULES, ", ".join(SCHEDULES))
        self._check("precision", self.precision in PRECISIONS, ", ".join(PRECISIONS))
        parts = self.accumulate * self.devices * self.nodes
        self._check(
            "batch_size", self.batch_size % parts == 0, f"multiples of {parts}, which it is divided into"
        )

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise TrainError(f"{name} is {getattr(self, name)!r}; allowed: {allowed}")

    def rate(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """The learning rate of ``step``, from 0, of so many."""
        top = self.learning_rate * (self.batch_size / self.reference_batch if self.reference_batch else 1)
        rising = round(self.warmup * steps_per_epoch)
        if step < rising:
            return top * (step + 1) / rising
        share = (step - rising) / max(1, steps - rising)
        if self.schedule == "cosine":
            return top * 0.5 * (1 + math.cos(math.pi * share))
        if self.schedule == "steps":
            return top * 0.1 ** ((share >= 0.5) + (share >= 0.75))
        return top

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Settings:
        """What `as_dict` made.

        Raises
        ------
        TrainError
            They are no settings.
        """
        try:
            augmentation = Augmentation(**values.get("augmentation", {}))
            return Settings(**{**values, "augmentation": augmentation})
        except TypeError as error:
            raise TrainError(f"these are no settings: {error}") from None
