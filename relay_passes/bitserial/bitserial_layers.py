"""Few-level layers that run as bitserial operators: as integer sums, or as decisions that are packed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te

from tvm_fastconv.topi.bits import word_count
from tvm_fastconv.topi.bitserial_conv2d import (
    BitserialParams,
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
from tvm_fastconv.topi.planner import Plan, Planner

from ..graph.operator_call import OPAQUE, operator_call
from ..graph.rewrite import CallRewriter
from .few_level_calls import bitserial_report
from .few_level_layers import FewLevelLayer


@dataclass(frozen=True)
class BitserialLayer:
    """A layer in the graph on a register tile, kept so that a decision about its sums can move into it."""

    layer: FewLevelLayer
    words: relax.Expr
    reason: str
    planner: Planner

    def totals(self, rewriter: CallRewriter) -> relax.Var:
        """Emit the layer as int32 sums."""
        signs, plan = (
            self.layer.levels.signs,
            self.planner.planned("bitserial_conv2d", self.layer.bitserial_problem),
        )
        table = border_table(signs, self._params(plan), *self.plane)
        constants, report = (
            [pack_signs(signs, plan.knobs.panel), table],
            bitserial_report(self.layer, self.reason),
        )
        return self._tiled(rewriter, bitserial_conv2d, plan, constants, report=report)

    def decisions(self, rewriter: CallRewriter, signs: np.ndarray, at: np.ndarray) -> relax.Var | None:
        """Emit the bits ``total >= at`` of the layer with ``signs``; ``None`` where no tile packs them."""
        problem = dataclasses.replace(self.layer.bitserial_problem, packed=True)
        plan = self.planner.plan("bitserial_conv2d", problem)
        if plan is None:
            return None
        table, panel = border_table(signs, self._params(plan), *self.plane), plan.knobs.panel
        limits = packed_limits(table, self.layer.activation.step, at, panel)
        report = bitserial_report(self.layer, f"{self.reason}; writes bits")
        constants = [pack_signs(signs, panel), limits]
        return self._tiled(rewriter, bitserial_conv2d_packed, plan, constants, report=report, pattern=OPAQUE)

    def _params(self, plan: Plan[Any]) -> BitserialParams:
        return self.layer.bitserial.in_tile(plan.knobs, self.planner.machine)

    def _tiled(
        self,
        rewriter: CallRewriter,
        compute: Callable[..., te.Tensor],
        plan: Plan[Any],
        constants: list[np.ndarray],
        **more: Any,
    ) -> relax.Var:
        return self._emit(
            rewriter,
            compute,
            constants,
            plan=plan,
            params=self._params(plan),
            tile=plan.knobs,
            bytewise=not self.planner.machine.counts_words,
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


class BitserialDepthwiseLayer(BitserialLayer):
    """A layer of one input and one output channel per group, on words of 32 channels."""

    def totals(self, rewriter: CallRewriter) -> relax.Var:
        """Emit the layer as int32 sums."""
        signs, plan = self.layer.levels.signs, self._plan(packed=False)
        table = border_table(signs, self.layer.bitserial, *self.plane)
        constants = [sign_rows(signs, self._row(plan)), table]
        return self._depthwise(rewriter, bitserial_depthwise_conv2d, plan, constants, self.reason)

    def decisions(self, rewriter: CallRewriter, signs: np.ndarray, at: np.ndarray) -> relax.Var | None:
        """Emit the bits ``total >= at`` of the layer with ``signs``."""
        params, plan = self.layer.bitserial, self._plan(packed=True)
        row, table = self._row(plan), border_table(signs, params, *self.plane)
        limits = limit_rows(table, params, at, *self.plane, row)
        constants, reason = [sign_rows(signs, row), limits], f"{self.reason}; writes bits"
        compute = bitserial_depthwise_conv2d_packed
        return self._depthwise(rewriter, compute, plan, constants, reason, pattern=OPAQUE)

    def _plan(self, packed: bool) -> Plan[Any]:
        problem = dataclasses.replace(self.layer.bitserial_problem, packed=packed)
        return self.planner.planned("bitserial_depthwise_conv2d", problem)

    def _row(self, plan: Plan[Any]) -> int:
        columns = self.layer.conv.output_size(*self.plane)[1]
        return row_words(columns, self.layer.conv.groups, plan.knobs.lanes)

    def _depthwise(
        self,
        rewriter: CallRewriter,
        compute: Callable[..., te.Tensor],
        plan: Plan[Any],
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
            plan=plan,
            report=bitserial_report(self.layer, reason) | stored,
            params=self.layer.bitserial,
            **more,
        )


def bitserial_layer(layer: FewLevelLayer, words: relax.Expr, reason: str, planner: Planner) -> BitserialLayer:
    """``layer`` on its packed input."""
    return (BitserialDepthwiseLayer if layer.is_bitserial_depthwise else BitserialLayer)(
        layer, words, reason, planner
    )
