"""What a dispatch pass learnt of a layer that it leaves to another pass: why, for the report."""

import json
from typing import Any

import tvm

FINDINGS = "fastconv.findings"
"""Module attribute: JSON object of layer name → report fields."""


def note_layer(mod: tvm.IRModule, findings: dict[str, dict[str, str]]) -> tvm.IRModule:
    """``mod`` with ``findings`` added to what is known."""
    known = layer_findings(mod)
    merged = known | {name: known.get(name, {}) | fields for name, fields in findings.items()}
    return mod.with_attr(FINDINGS, json.dumps(merged, sort_keys=True))


def layer_findings(mod: tvm.IRModule) -> dict[str, dict[str, str]]:
    """What was noted of the layers of ``mod``."""
    return json.loads(mod.attrs[FINDINGS]) if mod.attrs and FINDINGS in mod.attrs else {}


def with_findings(fields: dict[str, Any], findings: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The report ``fields`` of a layer with what was noted of it; an approximation comes before other reasons.

    What has no method is no layer, but something else in the module of one that is called without a module of its own.
    """
    if "method" not in fields:
        return fields
    noted = findings.get(fields["name"], {})
    reason = noted.get("reason", fields["reason"])
    reasons = [text for text in (noted.get("approximation"), reason) if text]
    return fields | {"method": noted.get("method", fields["method"]), "reason": "; ".join(reasons)}
