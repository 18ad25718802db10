"""Few-level layers that run on packed bits: as integer sums, or as decisions about them that are packed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te

from tvm_fastconv.topi.bits import WORD_BITS, word_count
from tvm_fastconv.topi.bitserial_conv2d import (
    bitserial_conv2d,
    bitserial_conv2d_packed,
    border_table,
    pack_signs,
    packed_limits,
)
from tvm_fastconv.topi.bitserial_depthwise_conv2d import (
    bitserial_depthwise_conv2d,
    bitserial_depthwise_conv2d_packed,
    limit_rows,
    row_words,
    sign_rows,
)
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs, default_knobs, feasible_knobs

from ..graph.operator_call import OPAQUE, operator_call
from ..graph.rewrite import CallRewriter
from .few_level_calls import bit_report
from .few_level_layers import FewLevelLayer


@dataclass(frozen=True)
class BitLayer:
    """A layer in the graph on a register tile, kept so that a decision about its sums can move into it."""

    layer: FewLevelLayer
    words: relax.Expr
    reason: str
    machine: Machine

    def totals(self, rewriter: CallRewriter) -> relax.Var:
        """Emit the layer as int32 sums."""
        layer = self.layer
        tile, signs = default_knobs(layer.bit_problem(), self.machine), layer.levels.signs
        table = border_table(signs, layer.bitserial_in(tile, self.machine), *self.plane)
        report = bit_report(layer, self.reason)
        return self._tiled(
            rewriter, bitserial_conv2d, tile, [pack_signs(signs, tile.panel), table], report=report
        )

    def decisions(self, rewriter: CallRewriter, signs: np.ndarray, at: np.ndarray) -> relax.Var | None:
        """Emit the bits ``total >= at`` of the layer with ``signs``; ``None`` where no tile packs them."""
        layer = self.layer
        problem = dataclasses.replace(layer.bit_problem(), panel_multiple=WORD_BITS)
        if not any(feasible_knobs(problem, self.machine)):
            return None
        tile = default_knobs(problem, self.machine)
        table = border_table(signs, layer.bitserial_in(tile, self.machine), *self.plane)
        limits = packed_limits(table, layer.activation.step, at, tile.panel)
        report = bit_report(layer, f"{self.reason}; writes bits")
        constants = [pack_signs(signs, tile.panel), limits]
        return self._tiled(rewriter, bitserial_conv2d_packed, tile, constants, report=report, pattern=OPAQUE)

    def _tiled(
        self,
        rewriter: CallRewriter,
        compute: Callable[..., te.Tensor],
        tile: TileKnobs,
        constants: list[np.ndarray],
        **more: Any,
    ) -> relax.Var:
        return self._emit(
            rewriter,
            compute,
            constants,
            op="bitserial_conv2d",
            knobs=tile.to_json(),
            params=self.layer.bitserial_in(tile, self.machine),
            tile=tile,
            bytewise=not self.machine.counts_words,
            **more,
        )

    def _emit(
        self,
        rewriter: CallRewriter,
        compute: Callable[..., te.Tensor],
        constants: list[np.ndarray],
        **how: Any,
    ) -> relax.Var:
        """Emit ``compute`` on the layer's words and ``constants``."""
        args = [self.words, *map(relax.const, constants)]
        return rewriter.builder_.emit(operator_call(rewriter, self.layer.call, compute, args, **how))

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = (int(size) for size in list(self.words.ty.shape)[1:3])
        return height, width


class DepthwiseBitLayer(BitLayer):
    """A layer of one input and one output channel per group, on words of 32 channels."""

    def totals(self, rewriter: CallRewriter) -> relax.Var:
        """Emit the layer as int32 sums."""
        signs = self.layer.levels.signs
        table = border_table(signs, self.layer.bitserial, *self.plane)
        constants = [sign_rows(signs, self._row), table]
        return self._depthwise(rewriter, bitserial_depthwise_conv2d, constants, self.reason)

    def decisions(self, rewriter: CallRewriter, signs: np.ndarray, at: np.ndarray) -> relax.Var | None:
        """Emit the bits ``total >= at`` of the layer with ``signs``."""
        params = self.layer.bitserial
        limits = limit_rows(border_table(signs, params, *self.plane), params, at, *self.plane, self._row)
        constants, reason = [sign_rows(signs, self._row), limits], f"{self.reason}; writes bits"
        return self._depthwise(rewriter, bitserial_depthwise_conv2d_packed, constants, reason, pattern=OPAQUE)

    @property
    def _row(self) -> int:
        columns = self.layer.conv.output_size(*self.plane)[1]
        return row_words(columns, self.layer.conv.groups, self.machine.lanes)

    def _depthwise(
        self,
        rewriter: CallRewriter,
        compute: Callable[..., te.Tensor],
        constants: list[np.ndarray],
        reason: str,
        **more: Any,
    ) -> relax.Var:
        kernel = self.layer.conv.kernel
        stored = {"weight_bytes": 4 * kernel[0] * kernel[1] * word_count(self.layer.conv.groups)}
        return self._emit(
            rewriter,
            compute,
            constants,
            op="bitserial_depthwise_conv2d",
            knobs="{}",
            report=bit_report(self.layer, reason) | stored,
            params=self.layer.bitserial,
            **more,
        )


def bit_layer(layer: FewLevelLayer, words: relax.Expr, reason: str, machine: Machine) -> BitLayer:
    """``layer`` on its packed input."""
    return (DepthwiseBitLayer if layer.is_bit_depthwise else BitLayer)(layer, words, reason, machine)
