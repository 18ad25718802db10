"""What a compiled model says about itself: its tensors and its layers. Plain data, importable without TVM or NumPy."""

from dataclasses import dataclass
from math import prod
from typing import Annotated

from .typed_json import AtMost

ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
"""Bytes per element of every dtype that may cross the border of a compiled model."""

ALIGNMENT = 64
"""Bytes; each tensor of a compiled model starts at a multiple of it: TVM's kAllocAlignment and a cache line, which
generated vector loads and stores rely on."""

MAX_RANK = 64
"""Dimensions of an array: NumPy's limit."""

Shape = Annotated[tuple[int | str, ...], AtMost(MAX_RANK)]
"""Sizes, and names of dynamic ones."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output: its name, shape and dtype. A ``str`` in the shape names a dynamic dimension."""

    name: str
    shape: Shape
    dtype: str

    def __post_init__(self) -> None:
        _check_shape_and_dtype(self.name, self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.shape))}) {self.dtype}"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor's bytes inside a section: its offset there in bytes, its shape and dtype, C order."""

    offset: int
    shape: Annotated[tuple[int, ...], AtMost(MAX_RANK)]
    dtype: str

    def __post_init__(self) -> None:
        _check_shape_and_dtype(f"the tensor at offset {self.offset}", self.shape, self.dtype)
        if self.offset < 0:
            raise ValueError(f"offset {self.offset} is negative")

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """How one layer was compiled.

    Parameters
    ----------
    name
        The module path in the source model, such as ``layer1.0.conv2``.
    method
        The structure recognised: ``dense``, ``depthwise``, ``lookup``, ``bitserial``, ...
    op
        What runs, which may be another operator because it is faster.
    reason
        One line that says why this method and operator.
    input_shape, output_shape
        Shapes of the layer in the source model.
    dense_macs
        Multiply-accumulates of the same layer done densely.
    operations
        Operations actually executed.
    weight_bytes
        Bytes of the packed weights.
    schedule
        The schedule's knobs.
    source
        Who chose them: ``default``, the estimate, or ``record``, a measurement of `tune`, which may have confirmed the
        default.
    gain
        How many times faster than the default a record says they are.
    error
        Largest error found by verification, relative to the layer's largest output.
    """

    name: str
    method: str
    op: str
    reason: str
    input_shape: Shape
    output_shape: Shape
    dense_macs: int
    operations: int
    weight_bytes: int
    schedule: str
    source: str = "default"
    gain: float | None = None
    error: float | None = None


def _check_shape_and_dtype(name: str, shape: tuple[int | str, ...], dtype: str) -> None:
    if bad := [d for d in shape if d == "" or (isinstance(d, int) and d < 1)]:
        raise ValueError(f"{name}: dimension {bad[0]!r} is neither a positive size nor a name")
    if dtype not in ITEM_BYTES:
        raise ValueError(f"{name}: dtype {dtype!r} is unknown; known: {', '.join(ITEM_BYTES)}")
