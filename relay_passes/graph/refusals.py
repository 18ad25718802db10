"""Layers for which a method was asked that they cannot have: one error for all of them."""

import tvm_ffi
from tvm import relax

from tvm_fastconv.errors import MethodError

from .layer_names import layer_name

tvm_ffi.register_error(MethodError)  # or TVM would hand it on as a RuntimeError


class Refusals:
    """Collects what a pass cannot do.

    Parameters
    ----------
    what : str
        As in "layer 'x' cannot *run on bits*".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.reasons: dict[str, str] = {}

    def refuse(self, call: relax.Call, why: str) -> None:
        """The layer of ``call`` cannot have it."""
        self.reasons[layer_name(call) or ""] = why

    def withdraw(self, call: relax.Call) -> None:
        """The layer of ``call`` has it after all."""
        self.reasons.pop(layer_name(call) or "", None)

    def check(self) -> None:
        """Raise ``MethodError`` if anything was refused."""
        if self.reasons:
            raise MethodError(
                "; ".join(f"layer {name!r} cannot {self.what}: {why}" for name, why in self.reasons.items())
            )
