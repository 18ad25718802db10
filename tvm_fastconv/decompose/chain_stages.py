"""Which convolutions, one after the other, take the place of one: their shapes, and their parts of its geometry.

Only the last has a bias, since zeros that the layer pads with must stay zeros wherever in the chain they are added.
"""

from dataclasses import dataclass

from .fixed_stencil import STENCILS


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a convolution walks over a plane: (height, width), and padding at (top, left, bottom, right)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Stage:
    """One convolution of a chain.

    Attributes
    ----------
    name : str
        Of this stage among the others.
    shape : tuple of four int
        Of its weight: (o, c / groups, kh, kw).
    groups : int
    rows, columns : bool
        Whether it takes the layer's stride, padding and dilation along the height, and along the width.
    """

    name: str
    shape: tuple[int, int, int, int]
    groups: int = 1
    rows: bool = False
    columns: bool = False

    def geometry(self, layer: Geometry) -> Geometry:
        """Its part of the layer's stride, padding and dilation."""
        (top, left, bottom, right), rows, columns = layer.padding, self.rows, self.columns
        return Geometry(
            stride=(layer.stride[0] if rows else 1, layer.stride[1] if columns else 1),
            padding=(top * rows, left * columns, bottom * rows, right * columns),
            dilation=(layer.dilation[0] if rows else 1, layer.dilation[1] if columns else 1),
        )


Shape = tuple[int, int, int, int]
"""Of the layer's weight: (o, c, kh, kw)."""


def cp_stages(shape: Shape, rank: int) -> tuple[Stage, ...]:
    """1×1 to ``rank`` channels, depthwise kh×1, depthwise 1×kw, 1×1; what is one pixel long is left out."""
    o, c, kh, kw = shape
    tall, wide = kh > 1, kw > 1
    return (
        Stage("input", (rank, c, 1, 1)),
        *([Stage("column", (rank, 1, kh, 1), rank, rows=True, columns=not wide)] if tall else []),
        *([Stage("row", (rank, 1, 1, kw), rank, rows=not tall, columns=True)] if wide else []),
        Stage("output", (o, rank, 1, 1), rows=not (tall or wide), columns=not (tall or wide)),
    )


def tucker_stages(shape: Shape, ranks: tuple[int, int]) -> tuple[Stage, ...]:
    """1×1 to ``ranks[0]`` channels, kh×kw to ``ranks[1]``, 1×1; ends that change no number of channels are left out."""
    o, c, kh, kw = shape
    q, p = ranks
    return (
        *([Stage("input", (q, c, 1, 1))] if q < c else []),
        Stage("core", (p, q, kh, kw), rows=True, columns=True),
        *([Stage("output", (o, p, 1, 1))] if p < o else []),
    )


def spatial_stages(shape: Shape, channels: int) -> tuple[Stage, ...]:
    """kh×1 to ``channels``, 1×kw."""
    o, c, kh, kw = shape
    return (
        Stage("column", (channels, c, kh, 1), rows=True),
        Stage("row", (o, channels, 1, kw), columns=True),
    )


def separable_stages(shape: Shape, multiplier: int) -> tuple[Stage, ...]:
    """Depthwise kh×kw with ``multiplier`` kernels for each channel, 1×1."""
    o, c, kh, kw = shape
    return (
        Stage("depthwise", (multiplier * c, 1, kh, kw), c, rows=True, columns=True),
        Stage("pointwise", (o, multiplier * c, 1, 1)),
    )


def fixed_stages(shape: Shape) -> tuple[Stage, ...]:
    """`STENCILS` on each channel, 1×1."""
    o, c, kh, kw = shape
    count = len(STENCILS) * c
    return (
        Stage("stencils", (count, 1, kh, kw), c, rows=True, columns=True),
        Stage("pointwise", (o, count, 1, 1)),
    )
