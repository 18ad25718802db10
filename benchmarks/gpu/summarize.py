#!/usr/bin/env python3
"""The results of measure.py, compact: ``python3 summarize.py FOLDER FILE``.

A case: the best of our kernels, its time in us, the runners-up, the rivals, the ratio to the best rival, the largest
relative error of all kernels that were checked, and the best three of every sweep of a stage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PARTS = ("peaks", "winograd", "lookup", "code", "separable", "depthwise", "int8")
SWEEPS = ("sweep_us", "depth_us", "point_us", "fused_us", "product_us")


def rows_of(path: Path) -> list[dict]:
    """The lines of a log; one that was cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def short(value):
    """Four significant digits, in anything."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def best(times: dict, count: int = 3) -> dict:
    """The first of a sweep."""
    return dict(sorted(times.items(), key=lambda x: x[1])[:count])


def compact(row: dict) -> dict:
    """One case."""
    rivals = {k: v for k, v in row["us"].items() if k.startswith(("torch", "half"))}
    ours = {k: v for k, v in row["us"].items() if k not in rivals}
    compared = {
        k: v for k, v in ours.items() if not k.endswith("float out") and not k.startswith("gather, constants")
    }
    kernel = min(compared, key=compared.get)
    rival = min((k for k in rivals if k.startswith("torch")), key=rivals.get)
    out = {"case": row["case"], "us": ours.pop(kernel), "kernel": kernel, "others": ours, "rivals": rivals}
    out |= {"ratio": rivals[rival] / out["us"], "error": row["error"]}
    if "checked" in row:
        out["checked"] = row["checked"]
    stages = {k.removesuffix("_us"): best(row[k]) for k in SWEEPS if k in row}
    for k, v in row.get("parts_us", {}).items():
        if k != "predicted":
            stages[k] = best(v) if isinstance(v, dict) else v
    if "errors" in row:  # by tile, of the three-kernel and the fused forms
        errors = row["errors"].items()
        out["errors"] = {
            f: max(v for k, v in errors if f in k)
            for f in ("F(2,3)", "F(4,3)")
            if any(f in k for k, _ in errors)
        }
    guesses = row.get("parts_us", {}).get("predicted", {})
    if guesses and stages.get("gather"):
        out["gather_predicted"] = guesses[next(iter(stages["gather"]))]
    more = ("bytes", "nnz_per_output", "gather_gfma", "product_gfma", "gop")
    return short(out | {"stages": stages} | {k: row[k] for k in more if k in row})


def summarize(folder: Path) -> dict:
    """All parts, and what failed."""
    results: dict = {"device": {}, "parts": {}, "failed": []}
    for part in PARTS:
        rows = rows_of(folder / f"{part}.jsonl")
        results["failed"] += [row | {"part": part} for row in rows if "failed" in row]
        if part == "peaks":
            for row in rows:
                results["device"] |= short({k: v for k, v in row.items() if k != "at"})
        else:
            results["parts"][part] = [compact(row) for row in rows if "us" in row]
    return results


def write(folder: Path, file: Path) -> dict:
    """The summary, a line for each case."""
    results = summarize(folder)
    parts = []
    for part, rows in results["parts"].items():
        parts.append(f'  "{part}": [\n' + ",\n".join("   " + json.dumps(row) for row in rows) + "\n  ]")
    lines = [f' "device": {json.dumps(results["device"])}', ' "parts": {\n' + ",\n".join(parts) + "\n }"]
    lines.append(f' "failed": {json.dumps(results["failed"])}')
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return results


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
