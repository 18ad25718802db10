"""What a dispatch pass learnt of a layer that it leaves to another pass: why, for the report."""

import json

import tvm

FINDINGS = "fastconv.findings"
"""Module attribute: JSON object of layer name → report fields."""


def note_layer(mod: tvm.IRModule, findings: dict[str, dict[str, str]]) -> tvm.IRModule:
    """``mod`` with ``findings`` added to what is known."""
    return mod.with_attr(FINDINGS, json.dumps(layer_findings(mod) | findings, sort_keys=True))


def layer_findings(mod: tvm.IRModule) -> dict[str, dict[str, str]]:
    """What was noted of the layers of ``mod``."""
    return json.loads(mod.attrs[FINDINGS]) if mod.attrs and FINDINGS in mod.attrs else {}
