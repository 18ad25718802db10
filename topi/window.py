"""The padded input that a window slides over, as one compute stage."""

import tvm
from tvm import te, tirx


def extents(*values: int | tvm.ir.Expr) -> tuple[tvm.ir.Expr, ...]:
    """A shape as Relax counts, in 64 bits: symbolic extents have them, and an index must not mix widths."""
    return tuple(tirx.IntImm("int64", value) if isinstance(value, int) else value for value in values)


def stage(name: str) -> dict[str, str]:
    """Annotation of a block that its operator's schedule places itself: it is never inlined."""
    return {"fastconv.stage": name}


def reduce_axes(**axes: int | tvm.ir.Expr) -> list[tirx.IterVar]:
    """One reduction axis from 0 for each name and extent."""
    return [
        te.reduce_axis((0, extent), name) for name, extent in zip(axes, extents(*axes.values()), strict=True)
    ]


def steps(**axes: int) -> list[tirx.IterVar | int]:
    """Reduction axes like `reduce_axes`, but 0 for an axis of one step, whose type ``tensorize`` would mistake."""
    return [reduce_axes(**{name: extent})[0] if extent > 1 else 0 for name, extent in axes.items()]


def padded_window(
    data: te.Tensor,
    size: tuple[int, int],
    padding: tuple[int, ...],
    fill: float = 0.0,
    input_dilation: tuple[int, int] = (1, 1),
    data_layout: str = "NHWC",
    phases: int = 1,
) -> te.Tensor:
    """Lay ``fill`` around the plane of ``data``, and between its pixels where ``input_dilation`` says so.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or (n, c, h, w)
    size : height and width of the result; whatever lies beyond the padding is ``fill`` too.
    padding : (top, left, ...); negative values crop.
    phases : how many neighbouring rows, and columns, become channels of one pixel.

    Returns
    -------
    Tensor, (n, *size, phases · phases · c)
        Its channels in the order: row, column, channel.
    """
    h, w = data.shape[data_layout.index("H")], data.shape[data_layout.index("W")]
    channels = data.shape[data_layout.index("C")]
    top, left = padding[:2]
    dh, dw = input_dilation

    def pixel(b: tirx.Var, y: tirx.Var, x: tirx.Var, c: tirx.Var) -> tvm.ir.Expr:
        if phases > 1:
            y, x = (
                y * phases + tirx.floordiv(c, phases * channels),
                x * phases + tirx.floordiv(c, channels) % phases,
            )
            c = tirx.floormod(c, channels)
        row, col = y - top, x - left
        inside = [row >= 0, row < (h - 1) * dh + 1, col >= 0, col < (w - 1) * dw + 1]
        if (dh, dw) != (1, 1):
            inside += [tirx.floormod(row, dh) == 0, tirx.floormod(col, dw) == 0]
            row, col = tirx.floordiv(row, dh), tirx.floordiv(col, dw)
        at = (b, row, col, c) if data_layout == "NHWC" else (b, c, row, col)
        return tirx.if_then_else(tirx.all(*inside), data[at], tirx.const(fill, data.dtype))

    shape = extents(data.shape[0], *size, channels * phases**2)
    return te.compute(shape, pixel, name="window", attrs=stage("window"))
