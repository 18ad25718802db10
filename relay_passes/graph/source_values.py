"""Which value of the source model a variable stands for, and in which form: verification compares them one by one.

Passes keep the variable of whatever keeps its meaning. What replaces a value (another variable of the same meaning,
another layout, packed words) is noted by `CallRewriter` or by the pass that makes it. A variable that stands for
nothing in the source is left out: it is then verified together with what is computed from it.
"""

import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.topi.bits import unpack_digits, word_count

VALUES = "fastconv.values"
"""Module attribute: list of [variable, JSON of its `SourceValue`]."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """How few-level values are stored: ``value = scale · (step · q + offset)``.

    Attributes
    ----------
    digits : int
        Bit planes of q in packed words, 0 where q is stored as a number.
    groups, channels : int
        Each group of channels begins with a word of its own.
    """

    digits: int
    groups: int
    channels: int
    step: int
    offset: int
    scale: float

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """The values (..., channels), float32, of words (..., groups · digits · words) or of numbers."""
        q = self._unpacked(stored) if self.digits else stored.astype(np.int64)
        return np.asarray(self.scale * (self.step * q + self.offset), np.float32)

    def _unpacked(self, words: np.ndarray) -> np.ndarray:
        per_group = self.channels // self.groups
        width = self.digits * word_count(per_group)
        parts = [
            unpack_digits(words[..., i * width : (i + 1) * width], per_group, self.digits)
            for i in range(self.groups)
        ]
        return np.concatenate(parts, axis=-1)


@dataclass(frozen=True, kw_only=True)
class SourceValue:
    """A value of the source model, stored.

    Attributes
    ----------
    name : str
        In the source: of a node of the exported graph, or of a variable of the imported one.
    channels_last : bool
        NHWC where the source has NCHW.
    levels : Levels, optional
        Only the levels are stored.
    """

    name: str
    channels_last: bool = False
    levels: Levels | None = None

    def decode(self, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
        """The value in the source's ``shape``; ``None`` where what is stored has another number of elements."""
        value = stored if self.levels is None else self.levels.decode(stored)
        if value.size != math.prod(shape):
            return None
        if not self.channels_last:
            return value.reshape(shape)
        batch, channels, *plane = shape
        return np.moveaxis(value.reshape(batch, *plane, channels), -1, 1)

    def in_levels(self, levels: Levels) -> "SourceValue":
        """The same value, of which only ``levels`` are stored."""
        return replace(self, levels=levels)

    def to_json(self) -> str:
        """Inverse of `from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "SourceValue":
        """Inverse of `to_json`."""
        fields = json.loads(text)
        levels = fields.pop("levels")
        return cls(**fields, levels=None if levels is None else Levels(**levels))


Values = dict[relax.Var, SourceValue]


def source_values(mod: tvm.IRModule) -> Values:
    """What is noted of the variables of ``mod``, some of which may be gone."""
    noted = mod.attrs[VALUES] if mod.attrs and VALUES in mod.attrs else []
    return {var: SourceValue.from_json(text) for var, text in noted}


def note_values(mod: tvm.IRModule, values: Values) -> tvm.IRModule:
    """``mod`` with ``values`` in place of what was noted."""
    if not values and not (mod.attrs and VALUES in mod.attrs):
        return mod
    return mod.with_attr(VALUES, [[var, value.to_json()] for var, value in values.items()])


def name_values(mod: tvm.IRModule) -> tvm.IRModule:
    """``mod`` as a source itself: every variable of ``main`` that holds one tensor stands for itself, by its name."""
    main = mod["main"]
    variables = [*main.params, *(binding.var for block in main.body.blocks for binding in block.bindings)]
    tensors = [var for var in variables if isinstance(var.ty, relax.TensorType)]
    return note_values(mod, {var: SourceValue(name=f"{i}:{var.name}") for i, var in enumerate(tensors)})
