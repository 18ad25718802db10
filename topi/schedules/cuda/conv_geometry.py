"""Geometry of a convolution whose sums a device function makes: as its block says it, and as the source has it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import tvm
from tvm import tirx

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """What every such convolution has.

    Attributes
    ----------
    plane, out_plane, kernel, stride, dilation, padding : tuple of int
        (height, width), ``padding`` at the top and left.
    """

    plane: tuple[int, int]
    out_plane: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]

    def to_json(self) -> str:
        """As a block annotation holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Self":
        """Inverse of `to_json`."""
        found = json.loads(text).items()
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in found
        }
        return cls(**fields)

    def pairs(self, more: Sequence[str] = ()) -> dict[str, int]:
        """Its pairs, and those called ``more``, as constants of the source: ``plane_y``, ``plane_x`` and so on."""
        names = ("plane", "out_plane", "kernel", "stride", "dilation", "padding", *more)
        return {
            f"{name}_{axis}": size
            for name in names
            for axis, size in zip("yx", getattr(self, name), strict=True)
        }

    def under(
        self, pixel: tirx.Var, ry: tvm.ir.Expr, rx: tvm.ir.Expr
    ) -> tuple[tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr]:
        """Image, row and column that a tap lies on in the window of ``pixel``, of all; it may be outside the plane."""
        height, width = self.out_plane
        y = tirx.floormod(tirx.floordiv(pixel, width), height) * self.stride[0]
        x = tirx.floormod(pixel, width) * self.stride[1]
        row = y + ry * self.dilation[0] - self.padding[0]
        column = x + rx * self.dilation[1] - self.padding[1]
        return tirx.floordiv(pixel, height * width), row, column
