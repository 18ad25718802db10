"""What a pass says of layers: method and reason for the report, and what was asked of them and cannot be."""

import json
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from tvm_fastconv.errors import MethodError

from .layer_names import layer_name

tvm_ffi.register_error(MethodError)  # or TVM would hand it on as a RuntimeError

NOTES = "fastconv.notes"
"""Module attribute: JSON object of layer name → report fields."""


class LayerNotes:
    """The notes of one pass about the layers of one module.

    Parameters
    ----------
    cannot : str
        What a layer that is refused cannot do, as in "layer 'x' cannot *run on bits*".
    """

    def __init__(self, cannot: str = "be as asked") -> None:
        self.cannot = cannot
        self._fields: dict[str, dict[str, str]] = {}
        self._refused: dict[str, str] = {}

    def note(self, layer: str, **fields: str) -> None:
        """Say ``method``, ``reason`` or ``approximation`` of a layer, in place of what this pass said before."""
        self._fields[layer] = fields

    def take_back(self, layer: str) -> None:
        """Say nothing of a layer."""
        self._fields.pop(layer, None)

    def refuse(self, call: relax.Call, why: str) -> None:
        """Say that the layer of ``call`` cannot be what was asked."""
        self._refused[layer_name(call) or ""] = why

    def allow(self, call: relax.Call) -> None:
        """Say that the layer of ``call`` can be it after all."""
        self._refused.pop(layer_name(call) or "", None)

    def written_to(self, mod: tvm.IRModule) -> tvm.IRModule:
        """``mod`` with these notes added to those of earlier passes.

        Raises
        ------
        MethodError
            Layers were refused; the message names all of them.
        """
        if self._refused:
            refused = [f"layer {name!r} cannot {self.cannot}: {why}" for name, why in self._refused.items()]
            raise MethodError("; ".join(refused))
        known = notes_of(mod)
        merged = known | {name: known.get(name, {}) | fields for name, fields in self._fields.items()}
        return mod.with_attr(NOTES, json.dumps(merged, sort_keys=True))


def notes_of(mod: tvm.IRModule) -> dict[str, dict[str, str]]:
    """What passes have noted of the layers of ``mod``."""
    return json.loads(mod.attrs[NOTES]) if mod.attrs and NOTES in mod.attrs else {}


def with_notes(fields: dict[str, Any], notes: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The report ``fields`` of a layer with what was noted of it; an approximation comes before other reasons.

    What has no method is no layer, but something else in the module of one that is called without a module of its own.
    """
    if "method" not in fields:
        return fields
    noted = notes.get(fields["name"], {})
    reason = noted.get("reason", fields["reason"])
    reasons = [text for text in (noted.get("approximation"), reason) if text]
    return fields | {"method": noted.get("method", fields["method"]), "reason": "; ".join(reasons)}
