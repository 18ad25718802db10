"""Sparse constant weights as lists of (offset, coefficient), in the order in which the operators read them.

Filters of a convolution (`SparseFilters`, over the `Slab` of padded input that they are added up from) and rows of a
matrix (`SparseRows`). Their integers are as short as they can be, since each is read with its coefficient.

A GPU reads an offset and its coefficient together, 64 bits: filters over the `Stack` of padded planes
(`ListedFilters`), and rows (`ListedRows`). Which form an operator reads follows from its knobs, by their ``lists``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from .conv2d import Conv2dParams


class SlabTile(Protocol):
    """Of the knobs of a convolution, what a `Slab` depends on."""

    @property
    def rows(self) -> int:
        """Output rows of a tile."""

    @property
    def strip(self) -> int:
        """Tile rows that share one copy of the padded input."""

    @property
    def width(self) -> int:
        """Pixels in a row of a tile."""

    def tiles_of(self, height: int, width: int) -> tuple[int, int]:
        """Strips and column tiles of an output plane."""


class RowGroups(Protocol):
    """Of the knobs of a product, what `SparseRows` depend on."""

    @property
    def lanes(self) -> int:
        """Outputs of a vector."""

    @property
    def chunks(self) -> int:
        """Equal parts of the outputs."""

    @property
    def block(self) -> int:
        """Inputs that stay in cache together."""


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
    def of(cls, params: Conv2dParams, channels: int, width: int, knobs: SlabTile) -> Slab:
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

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.offsets, self.coefficients, self.first


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
    def of(cls, weight: np.ndarray, knobs: RowGroups) -> SparseRows:
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


@dataclass(frozen=True)
class Stack:
    """The padded planes of one channel of a batch, one above the other, as blocks of a GPU read them: tile by tile.

    Every output row takes ``span`` lanes, of which those beyond the row's end are idle. Where nothing is skipped
    (stride 1), neighbouring rows and images share the zeros between them, and lane and place differ by a constant;
    else each row is laid out by its phases, as in a `Slab`.

    Attributes
    ----------
    columns : int
        Outputs of a row of a tile.
    span, rows : int
        Lanes of an output row, and output rows of a tile.
    pitch, phases : int
        Places of a phase of an input row, and phases.
    window_rows : int
        Input rows under a tile.
    period : int
        Output rows from one image to the next, real or not.
    plane, reach : int
        Places of a tile that are filled, and the last that any lane reads.
    """

    columns: int
    span: int
    rows: int
    pitch: int
    phases: int
    window_rows: int
    period: int
    plane: int
    reach: int

    @classmethod
    def of(cls, params: Conv2dParams, height: int, width: int, lanes: int, parts: int) -> Stack:
        """Of planes of ``height`` × ``width``, under blocks of so many ``lanes``, each of one of ``parts`` of a row."""
        (oh, ow), (down, across) = params.output_size(height, width), params.stride
        top, left, _, right = params.padding
        below, beside = ((k - 1) * d for k, d in zip(params.kernel, params.dilation, strict=True))
        columns = -(-ow // parts)
        if params.stride != (1, 1):
            pitch = (columns - 1) + beside // across + 1
            span, pitch = _without_conflicts(columns, pitch, down * across)
        elif parts > 1:
            span = pitch = columns + beside
        else:
            span = pitch = max(width + max(left, right), ow)
        rows, row = lanes // span, across * pitch
        window_rows = (rows - 1) * down + below + 1
        period = max(oh, -(-(top + height) // down), -(-((oh - 1) * down + below - top + 1) // down))
        if params.stride == (1, 1):
            beyond, last = max(0, columns + beside - pitch), lanes - 1
        else:
            beyond, last = 0, (lanes - 1) // span * down * row + span - 1
        tap = below * row + (across - 1) * pitch + beside // across
        return cls(
            columns, span, rows, pitch, across, window_rows, period, window_rows * row + beyond, last + tap
        )

    @property
    def is_strided(self) -> bool:
        """Whether lane and place differ by more than a constant."""
        return self.span != self.phases * self.pitch

    def size(self, channels: int) -> int:
        """Floats of so many channels."""
        return max(channels * self.plane, (channels - 1) * self.plane + self.reach + 1)


def _without_conflicts(span: int, pitch: int, rows: int) -> tuple[int, int]:
    """The smallest span and pitch from these on with which lanes of the next output row go on in the next bank."""
    found = [
        (wider + longer, span + wider, pitch + longer)
        for wider in range(9)
        for longer in range(12)
        if (rows * (pitch + longer) - span - wider) % 32 == 0
    ]
    return min(found, default=(0, span, pitch))[1:]


@dataclass(frozen=True)
class ListedFilters:
    """The nonzeros of a weight for a GPU: for every block of channels, filter by filter, two to a step of 128 bits.

    Attributes
    ----------
    entries : ndarray, (4 · (steps + 1),), int32
        Offset and coefficient, bit by bit, and again. Offsets are places of the `Stack` of their block. A step of zeros
        ends odd lists, and one stands behind all lists: the next step is read before it is known to be needed.
    first : ndarray, (blocks · filters + 1,), int32
        The step at which each filter begins in each block, and the end. Filters are rounded up to whole thread blocks.
    """

    entries: np.ndarray
    first: np.ndarray

    @classmethod
    def of(
        cls, weight: np.ndarray, params: Conv2dParams, stack: Stack, block: int, filters: int
    ) -> ListedFilters:
        """Of dense weights (o, c / groups, kh, kw): ``block`` channels at a time, ``filters`` to a thread block."""
        outputs, per_group = weight.shape[:2]
        rounded = -(-outputs // filters) * filters
        o, c, row, column = np.nonzero(weight)
        channel = c + o // (outputs // params.groups) * per_group
        row_at, column_at = row * params.dilation[0], column * params.dilation[1]
        phase, shift = column_at % stack.phases, column_at // stack.phases
        place = channel % block * stack.plane + (row_at * stack.phases + phase) * stack.pitch + shift
        blocks = -(-per_group * params.groups // block)
        values = weight[o, c, row, column].astype(np.float32)
        return cls(*_steps(channel // block * rounded + o, place, values, blocks * rounded, 2))

    def longest(self, filters: int) -> int:
        """Steps of the longest lists of so many filters together, over one block of channels."""
        return int(np.diff(self.first[::filters]).max())

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.entries, self.first


@dataclass(frozen=True)
class ListedRows:
    """The nonzeros of a matrix (o, k) for a GPU: row by row, in steps of equal length.

    Attributes
    ----------
    entries : ndarray, (2 · length · (steps + 1),), int32
        Column and coefficient, bit by bit. Zeros fill a row's last step, and one more behind all rows.
    first : ndarray, (rows + 1,), int32
        The step at which each row begins, and the end. Rows are rounded up to whole thread blocks.
    """

    entries: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, rows: int, length: int) -> ListedRows:
        """Of a dense matrix (o, k), in steps of ``length``, ``rows`` to a thread block."""
        row, column = np.nonzero(weight)
        rounded = -(-len(weight) // rows) * rows
        return cls(*_steps(row, column, weight[row, column].astype(np.float32), rounded, length))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.entries, self.first


def _steps(
    which: np.ndarray, place: np.ndarray, values: np.ndarray, lists: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Entries by list and place, in steps of ``length``; and the step at which each list begins, and the end."""
    order = np.lexsort((place, which))
    counts = np.bincount(which, minlength=lists)
    first = np.concatenate([[0], np.cumsum(-(-counts // length))])
    within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    entries = np.zeros((length * (int(first[-1]) + 1), 2), np.int32)
    entries[length * first[which[order]] + within, 0] = place[order]
    entries[length * first[which[order]] + within, 1] = values[order].view(np.int32)
    return entries.reshape(-1), first.astype(np.int32)


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
