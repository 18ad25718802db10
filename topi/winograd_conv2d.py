"""Winograd convolution F(m×m, r×r), NHWC: 36 multiplications per 4×4 outputs where direct 3×3 takes 144.

``Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A`` (Lavin and Gray, 1509.09308), with the sum over input channels between the two
transforms, so that its middle is (m + r − 1)² matrix products.

With a stride of s, every s-th row and column is a phase: the s² phases of the input, as channels, meet those of the
kernel with stride 1. Of 7×7 taps and stride 2 there are 4×4 for each phase.
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem
from .machine import Machine
from .matrix_product import matrix_product
from .operators import Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .product_steps import Steps
from .schedules.cpu.tile import TileLoops
from .schedules.cpu.winograd import WinogradKnobs, WinogradLoops
from .schedules.cuda.gemm_knobs import GemmLoops
from .schedules.cuda.winograd import WinogradGemmKnobs
from .window import extents, padded_window, reduce_axes, stage
from .winograd_transforms import data_rows, output_rows, row_of, winograd_matrices


@dataclass(frozen=True, kw_only=True)
class WinogradProblem(ConvProblem):
    """A convolution by F(m×m): one of `winograd_transforms.OUTPUTS` for its `taps`."""

    m: int

    @property
    def taps(self) -> int:
        """Of a kernel's phase, on either axis."""
        return phase_taps(self.conv)

    @property
    def depth(self) -> int:
        """Channels of all phases of the input."""
        return self.channels * self.conv.stride[0] ** 2

    @property
    def winograd_loops(self) -> WinogradLoops:
        """As its cost model sees it."""
        (height, width), m, outputs = self.output_size, self.m, self.conv.out_channels
        size, columns = m + self.taps - 1, -(-width // m)
        tile = TileLoops(
            batch=self.batch,
            height=-(-height // m),
            width=columns,
            out_channels=outputs,
            groups=1,
            reduction=self.depth,
            strip_row_bytes=4 * size**2 * columns * (self.depth + outputs),
            weight_bytes=4 * size**2 * self.depth * outputs,
            neighbours=self.depth,
        )
        return WinogradLoops(tile=tile, m=m, size=size)

    @property
    def gemm_loops(self) -> GemmLoops:
        """The products between the transforms, as `GemmKnobs` sees them."""
        loops = self.winograd_loops
        tiles = loops.tile.batch * loops.tile.height * loops.tile.width
        return GemmLoops(
            batch=loops.size**2,
            rows=tiles,
            columns=self.conv.out_channels,
            taps=1,
            depth=self.depth,
            input_bytes=4 * loops.size**2 * tiles * self.depth,
        )


def winograd_conv2d_reference(
    data: np.ndarray, weight: np.ndarray, params: Conv2dParams, m: int
) -> np.ndarray:
    """The same algorithm in NumPy, float32 throughout; arguments as for `conv2d_reference`."""
    taps, s = phase_taps(params), params.stride[0]
    a, _, b = (matrix.astype(np.float32) for matrix in winograd_matrices(m, taps))
    transformed, size = transform_weight(phases_of_kernel(weight, s), m), m + taps - 1
    n, h, w, c = data.shape
    oh, ow = params.output_size(h, w)
    rows, cols = -(-oh // m), -(-ow // m)
    top, left = params.padding[:2]
    padded = np.zeros((n, (rows * m + taps - 1) * s, (cols * m + taps - 1) * s, c), np.float32)
    padded[:, top : top + h, left : left + w] = data[:, : padded.shape[1] - top, : padded.shape[2] - left]
    padded = padded.reshape(n, -1, s, padded.shape[2] // s, s, c).transpose(0, 1, 3, 2, 4, 5)
    padded = padded.reshape(*padded.shape[:3], -1)
    out = np.zeros((n, rows * m, cols * m, params.out_channels), np.float32)
    for y in range(0, rows * m, m):
        for x in range(0, cols * m, m):
            tile = padded[:, y : y + size, x : x + size]
            tile = np.einsum("ai,nijc,bj->abnc", b, tile, b, optimize=True)
            sums = tile @ transformed
            out[:, y : y + m, x : x + m] = np.einsum("ia,abno,jb->nijo", a, sums, a, optimize=True)
    return out[:, :oh, :ow]


def phase_taps(params: Conv2dParams) -> int:
    """Taps of a phase of a square kernel, on either axis."""
    return -(-params.kernel[0] // params.stride[0])


def phases_of_kernel(weight: np.ndarray, stride: int) -> np.ndarray:
    """(o, c, k, k) → (o, stride² · c, taps, taps) in the order of `padded_window`; what is beyond the kernel is 0."""
    o, c, k, _ = weight.shape
    taps = -(-k // stride)
    padded = np.zeros((o, c, taps * stride, taps * stride), np.float32)
    padded[..., :k, :k] = weight
    phases = padded.reshape(o, c, taps, stride, taps, stride).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(phases.reshape(o, -1, taps, taps))


def transform_weight(weight: np.ndarray, m: int) -> np.ndarray:
    """(o, c, r, r) → G g Gᵀ as (size, size, c, o), computed in float64."""
    _, g, _ = winograd_matrices(m, weight.shape[-1])
    return np.einsum("ai,ocij,bj->abco", g, weight.astype(np.float64), g, optimize=True).astype(np.float32)


def pack_winograd_weight(weight: np.ndarray, m: int, panel: int, stride: int = 1) -> np.ndarray:
    """(o, c, k, k) → (size, size, panels, depth, panel), output channels padded with zeros."""
    transformed = transform_weight(phases_of_kernel(weight, stride), m)
    *size, c, o = transformed.shape
    padded = np.zeros((*size, c, -(-o // panel) * panel), np.float32)
    padded[..., :o] = transformed
    return np.ascontiguousarray(padded.reshape(*size, c, -1, panel).swapaxes(2, 3))


def winograd_error(weight: np.ndarray, m: int, stride: int = 1, tiles: int = 16) -> float:
    """Largest error of F(m×m) for these weights on random ReLU inputs, relative to the largest output."""
    weight = phases_of_kernel(weight, stride)
    rng, taps = np.random.default_rng(0), weight.shape[-1]
    size = m + taps - 1
    data = np.maximum(rng.standard_normal((tiles, size, size, weight.shape[1])), 0).astype(np.float32)
    params = Conv2dParams(kernel=(taps, taps), out_channels=weight.shape[0])
    got = winograd_conv2d_reference(data, weight, params, m)
    patches = np.stack([data[:, i : i + m, j : j + m] for i in range(taps) for j in range(taps)], axis=-1)
    kernel = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    want = np.tensordot(patches.astype(np.float64), kernel, axes=([3, 4], [1, 2]))
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def winograd_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    params: Conv2dParams,
    m: int,
    tile: WinogradKnobs | WinogradGemmKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Convolve ``data`` with transformed and packed square kernels.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or, for ``data_layout`` "NCHW", (n, c, h, w), float32
    weight : Tensor, (size, size, panels, depth, panel)
        From `pack_winograd_weight` with ``panel = tile.panel``.
    params : Conv2dParams
        Square kernel and stride, of as many taps for each phase as `winograd_transforms.OUTPUTS` has; dilations and
        groups 1.
    m : int
        Outputs per side of a tile, see `winograd_transforms.OUTPUTS`.

    Returns
    -------
    Tensor, (n, oh, ow, out_channels)
    """
    n, h, w = (data.shape[params.data_layout.index(axis)] for axis in "NHW")
    oh, ow = params.output_size(int(h), int(w))
    size, _, panels, c, panel = (int(extent) for extent in weight.shape)
    rows, cols = -(-oh // m), -(-ow // m)
    if isinstance(tile, WinogradKnobs):
        rows, cols = tile.round_up(rows, cols)
    around, taps = size - m, phase_taps(params)
    window = padded_window(
        data,
        (rows * m + around, cols * m + around),
        params.padding,
        data_layout=params.data_layout,
        phases=params.stride[0],
    )

    def columns(a: tirx.Var, b: tirx.Var, ty: tirx.Var, x: tirx.Var, k: tirx.Var) -> tvm.ir.Expr:
        return row_of(a, data_rows(m, taps, [window[b, ty * m + i, x, k] for i in range(size)]))

    down = te.compute(
        extents(size, n, rows, cols * m + around, c),
        columns,
        name="data_columns",
        attrs=stage("data_columns"),
    )
    spectrum = te.compute(
        extents(size, size, n, rows, cols, c),
        lambda a, b, i, ty, tx, k: row_of(
            b, data_rows(m, taps, [down[a, i, ty, tx * m + j, k] for j in range(size)])
        ),
        name="data_rows",
        attrs=stage("data_rows"),
    )
    if isinstance(tile, WinogradGemmKnobs):
        products = _products(spectrum, weight, tile, attrs)

        def summed(a: int, b: tirx.Var, *at: tvm.ir.Expr) -> tvm.ir.Expr:
            i, ty, tx, o = at
            return products[a * size + b, (i * rows + ty) * cols + tx, o]

    else:
        (rc,) = reduce_axes(rc=c)
        summed = te.compute(
            extents(size, size, n, rows, cols, panels * panel),
            lambda a, b, i, ty, tx, o: te.sum(
                spectrum[a, b, i, ty, tx, rc] * weight[a, b, o // panel, rc, o % panel], axis=[rc]
            ),
            name="winograd_conv2d",
            attrs=attrs,
        )
    back = te.compute(
        extents(m, size, n, rows, cols, panels * panel),
        lambda i, b, at, ty, tx, o: row_of(
            i, output_rows(m, taps, [summed(a, b, at, ty, tx, o) for a in range(size)])
        ),
        name="output_columns",
        attrs=stage("output_columns"),
    )

    def pixel(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        values = [back[y % m, j, b, y // m, x // m, o] for j in range(size)]
        return row_of(x % m, output_rows(m, taps, values))

    return te.compute(extents(n, oh, ow, params.out_channels), pixel, name="crop")


def _products(
    spectrum: te.Tensor, weight: te.Tensor, knobs: WinogradGemmKnobs, attrs: dict[str, str]
) -> te.Tensor:
    """(size², tiles, output channels), in whole tiles of a `matrix_product`."""
    size, _, n, rows, cols, c = spectrum.shape
    _, _, panels, _, panel = (int(extent) for extent in weight.shape)
    steps, tiles, zero = Steps.of(1, int(c), knobs.tile_k), n * rows * cols, tirx.const(0.0, "float32")

    def left(z: tirx.Var, step: tirx.Var, term: tirx.Var, t: tirx.Var) -> tvm.ir.Expr:
        _, k = steps.place(step, term)
        value = spectrum[z // size, z % size, t // (rows * cols), t // cols % rows, t % cols, k]
        return tirx.if_then_else(tirx.all(t < tiles, k < c), value, zero)

    def right(z: tirx.Var, step: tirx.Var, term: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        _, k = steps.place(step, term)
        value = weight[z // size, z % size, o // panel, k, o % panel]
        return tirx.if_then_else(k < c, value, zero) if steps.is_padded else value

    return matrix_product(left, right, tiles, panels * panel, steps, knobs, attrs, (int(size) ** 2,))


def make_winograd_conv2d(
    problem: WinogradProblem, knobs: WinogradKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`winograd_conv2d` alone."""
    (data, weight), m, params = problem.random(rng), problem.m, problem.conv
    packed = pack_winograd_weight(weight, m, knobs.panel, params.stride[0])
    arrays = (problem.stored(data), packed)
    attrs = operator_attrs("winograd_conv2d", problem, knobs)
    how = {"params": params, "m": m, "tile": knobs, "attrs": attrs}

    def reference() -> np.ndarray:
        return winograd_conv2d_reference(data, weight, params, m)

    return activated_sample(winograd_conv2d, arrays, reference, params.out_channels, rng, **how)


register_operator("winograd_conv2d", WinogradProblem)
register_knobs("llvm", "winograd_conv2d", WinogradKnobs, make_winograd_conv2d)
register_knobs("cuda", "winograd_conv2d", WinogradGemmKnobs, make_winograd_conv2d)
