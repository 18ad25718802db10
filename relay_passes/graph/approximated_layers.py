"""What the passes that approximate layers share: whom they were asked for, what they found, what they had to refuse."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import tvm
from tvm import relax

from .layer_notes import LayerNotes
from .rewrite import CallRewriter, rewrite_calls

Config = TypeVar("Config")


class ApproximatedLayers(Generic[Config]):
    """The rules of one pass over one module.

    Parameters
    ----------
    asked : mapping
        Layer name to config.
    cannot : str
        What a layer that is refused cannot do, see `LayerNotes`.
    """

    def __init__(self, asked: Mapping[str, Config], cannot: str) -> None:
        self.asked = asked
        self.notes = LayerNotes(cannot)

    def rewrite(self, mod: tvm.IRModule) -> tvm.IRModule:
        """Apply the rules to every Relax function of ``mod``, and note what they found.

        Raises
        ------
        MethodError
            A layer asked for cannot be approximated; the message names it.
        """
        rules = {"nn.conv2d": self.conv2d, "matmul": self.matmul, "nn.conv2d_transpose": self.transposed}
        return self.notes.written_to(rewrite_calls(mod, rules))

    def conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for convolutions."""
        raise NotImplementedError

    def matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for linear layers."""
        raise NotImplementedError

    def transposed(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for transposed convolutions."""
        raise NotImplementedError
