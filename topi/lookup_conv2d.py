"""Convolution with sparse constant weights, planes in NCHW: LCNN's lookups, and pruned layers of any origin.

Every coefficient of a filter is one tap (channel, kernel row, kernel column), and contributes a shifted plane of its
channel: a filter is a short list of (offset, coefficient). Neighbouring pixels are the lanes of a vector, so each
coefficient is broadcast once per tile. Channels are taken in blocks that stay in L1 under a tile while all filters pass
by; between blocks the sums wait in L2. With a dictionary in front, a 1×1 convolution, this is the lookup convolution of
Bagherinezhad et al., LCNN (arXiv:1611.06473, section 3).

    W[o, :, r, c] = Σ_t C[o, t] · D[I[o, t], :]   at the tap (r, c) of t
"""

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from .conv2d import Conv2dParams, ConvProblem, conv2d_reference
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator
from .schedules.cpu.lookup import LookupKnobs, LookupLoops
from .schedules.cuda.lookup import GpuLookupKnobs
from .schedules.registry import body_of
from .sparse_lists import ListedFilters, SparseFilters


@dataclass(frozen=True, kw_only=True)
class LookupProblem(ConvProblem):
    """A convolution of whose weights ``nonzeros`` are not 0."""

    nonzeros: int

    @property
    def lookup_loops(self) -> LookupLoops:
        """As its cost model sees it."""
        (rows, columns), conv = self.output_size, self.conv
        return LookupLoops(
            batch=self.batch,
            height=rows,
            width=columns,
            channels=self.channels,
            out_channels=conv.out_channels,
            nonzeros=self.nonzeros,
            row_bytes=4 * conv.window_size(1, columns)[1],
            halo=(conv.kernel[0] - 1) * conv.dilation[0],
            stride=conv.stride[0],
        )


def lookup_conv2d_reference(data: np.ndarray, weight: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """`conv2d_reference` in NCHW: ``data`` (n, c, h, w), ``weight`` (o, c / groups, kh, kw), result (n, o, oh, ow)."""
    return conv2d_reference(data.transpose(0, 2, 3, 1), weight, params).transpose(0, 3, 1, 2)


def lookup_conv2d(
    shape: tuple[int | tirx.Var, ...],
    filters: SparseFilters | ListedFilters,
    params: Conv2dParams,
    tile: LookupKnobs | GpuLookupKnobs,
    attrs: dict[str, str],
    kind: str = "llvm",
) -> tirx.PrimFunc:
    """Build the convolution of float32 NCHW of ``shape``.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic.
    filters : SparseFilters or ListedFilters
        In the form that ``tile`` asks for; for their number and type: their arrays are arguments.
    params : Conv2dParams
        Without ``input_dilation``.
    attrs : dict
        Annotations of the anchor block.
    kind : str
        Of target, whose loops these are.

    Returns
    -------
    PrimFunc
        (data, *arrays of ``filters``, result); ``result`` float32 (n, o, oh, ow).
    """
    return body_of(kind, "lookup_conv2d")(shape, filters, params, tile, attrs)


def make_lookup_conv2d(
    problem: LookupProblem, knobs: LookupKnobs | GpuLookupKnobs, machine: Machine, rng: np.random.Generator
) -> Sample:
    """`lookup_conv2d` alone, its nonzeros anywhere."""
    (data, weight), params = problem.random(rng), problem.conv
    zeros = rng.choice(weight.size, weight.size - problem.nonzeros, replace=False)
    weight.reshape(-1)[zeros] = 0
    planes = np.ascontiguousarray(data.transpose(0, 3, 1, 2))
    filters = knobs.lists(weight, params, planes.shape[1:])
    attrs = operator_attrs("lookup_conv2d", problem, knobs)
    func = lookup_conv2d(planes.shape, filters, params, knobs, attrs, kind=machine.kind)
    return Sample(func, (planes, *filters.arrays), lambda: lookup_conv2d_reference(planes, weight, params))


register_operator("lookup_conv2d", LookupProblem)
register_knobs("llvm", "lookup_conv2d", LookupKnobs, make_lookup_conv2d)
register_knobs("cuda", "lookup_conv2d", GpuLookupKnobs, make_lookup_conv2d)
