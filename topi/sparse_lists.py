"""Sparse constant weights as lists of (offset, coefficient), in the order in which the operators read them.

Filters of a convolution (`SparseFilters`, over the `Slab` of padded input that they are added up from) and rows of a
matrix (`SparseRows`). Their integers are as short as they can be, since each is read with its coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .conv2d import Conv2dParams
    from .schedules.cpu.lookup import LookupKnobs
    from .schedules.cpu.lookup_dense import LookupDenseKnobs


def compact(values: np.ndarray) -> np.ndarray:
    """Non-negative integers as uint16 where that holds the largest, else as int32."""
    return values.astype(np.uint16 if values.max(initial=0) < 1 << 16 else np.int32)


@dataclass(frozen=True)
class Slab:
    """How the padded input under one strip is laid out: (channel, column phase, row, column), flattened.

    A stride takes every s-th column: those of each phase lie side by side, so that vectors are always dense.
    """

    channels: int
    phases: int
    rows: int
    pitch: int

    @classmethod
    def of(cls, params: Conv2dParams, channels: int, width: int, knobs: LookupKnobs) -> Slab:
        """For outputs ``width`` wide."""
        rows = params.window_size(knobs.rows * knobs.strip, 1)[0]
        _, columns = knobs.tiles_of(1, width)
        shift = (params.kernel[1] - 1) * params.dilation[1] // params.stride[1]
        return cls(channels, params.stride[1], rows, columns * knobs.width + shift)

    @property
    def plane(self) -> int:
        """Floats of one channel."""
        return self.phases * self.rows * self.pitch

    @property
    def size(self) -> int:
        """Floats of all channels."""
        return self.channels * self.plane


@dataclass(frozen=True)
class SparseFilters:
    """The nonzeros of a weight: for every block of channels, filter by filter.

    Attributes
    ----------
    offsets : ndarray, (nonzeros,), uint16 or int32
        Where the tap lies for a tile's first output, in the slab of its block.
    coefficients : ndarray, (nonzeros,), float32
    first : ndarray, (blocks · o + 1,), uint16 or int32
        Where each filter begins in each block, and the end.
    """

    offsets: np.ndarray
    coefficients: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, params: Conv2dParams, slab: Slab, block: int) -> SparseFilters:
        """Of dense weights (o, c / groups, kh, kw), laid out for ``slab`` in blocks of ``block`` channels."""
        outputs, per_group = weight.shape[:2]
        o, c, row, column = np.nonzero(weight)
        channel = c + o // (outputs // params.groups) * per_group
        part, row_at, column_at = channel // block, row * params.dilation[0], column * params.dilation[1]
        phase, shift = column_at % slab.phases, column_at // slab.phases
        place = channel % block * slab.plane + (phase * slab.rows + row_at) * slab.pitch + shift
        order = np.lexsort((place, o, part))
        counts = np.bincount(part * outputs + o, minlength=-(-slab.channels // block) * outputs)
        return cls(
            compact(place[order]),
            weight[o, c, row, column][order].astype(np.float32),
            compact(np.concatenate([[0], np.cumsum(counts)])),
        )


@dataclass(frozen=True)
class SparseRows:
    """The nonzeros of a matrix (o, k), in groups of ``lanes`` rows for every chunk of rows and block of columns.

    Attributes
    ----------
    lanes, chunks, blocks : int
    offsets : ndarray, (steps · lanes,), uint16 or int32
        Columns. Each step of a group holds one for every lane.
    coefficients : ndarray, (steps · lanes,), float32
        0 where a row has no more.
    first : ndarray, (chunks · blocks · groups + 1,), uint16 or int32
        The step at which each group begins, and the end.
    rows : ndarray, (chunks · blocks · groups · lanes,), uint16 or int32
        Where the sum of each lane goes; behind the last row comes the row of its group's first lane again.
    """

    lanes: int
    chunks: int
    blocks: int
    offsets: np.ndarray
    coefficients: np.ndarray
    first: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, knobs: LookupDenseKnobs) -> SparseRows:
        """Of a dense matrix (o, k)."""
        outputs, lanes, chunks, size = len(weight), knobs.lanes, knobs.chunks, knobs.block
        blocks = -(-weight.shape[1] // size)
        offsets, coefficients, rows, steps = [], [], [], [0]
        for start in range(0, outputs, outputs // chunks):
            for column in range(0, weight.shape[1], size):
                part = weight[start : start + outputs // chunks, column : column + size]
                for group in _groups(part, lanes):
                    rows.append(start + group)
                    listed = _columns(part[group])
                    offsets.append(column + listed.reshape(-1))
                    coefficients.append(np.take_along_axis(part[group], listed.T, 1).T.reshape(-1))
                    steps.append(len(listed))
        return cls(
            lanes,
            chunks,
            blocks,
            compact(np.concatenate(offsets)),
            np.concatenate(coefficients).astype(np.float32),
            compact(np.cumsum(steps)),
            compact(np.concatenate(rows)),
        )

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.offsets, self.coefficients, self.first, self.rows


def _groups(part: np.ndarray, lanes: int) -> list[np.ndarray]:
    """The rows of ``part`` by falling number of nonzeros, ``lanes`` at a time."""
    order = np.argsort(-np.count_nonzero(part, axis=1), kind="stable")
    last = order[-(len(order) % lanes) :] if len(order) % lanes else order[:0]
    filled = np.concatenate([order, np.repeat(last[:1], -len(order) % lanes)])
    return list(filled.reshape(-1, lanes))


def _columns(rows: np.ndarray) -> np.ndarray:
    """Columns of the nonzeros of each row, (steps, lanes), the shorter lists followed by columns of zeros."""
    steps = np.count_nonzero(rows, axis=1).max()
    return np.argsort(rows == 0, axis=1, kind="stable")[:, :steps].T
