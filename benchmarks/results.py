"""What a measurement leaves behind: a table on the screen and a file with the conditions it was made under.

A figure here is a ratio to a named rival in the same run. Medians and their spread stand beside it in
``benchmarks/results/<name>.json``, with the machine, the versions and the date.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm_fastconv.runtime.cpu import processor_name

from .options import ISA_ENVIRONMENT
from .runner import Measured, Row, Settings, geometric_mean

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("tvm-fastconv", "apache-tvm", "torch", "onnxruntime", "openvino", "numpy")


def conditions(settings: Settings) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat a measurement."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "isa": settings.isa,
        "isa_environment": ISA_ENVIRONMENT[settings.isa],
        "threads": settings.threads,
        "repeats": settings.repeats,
        "seconds_per_turn": settings.min_time,
    }


def describe(settings: Settings) -> str:
    """Conditions in a few words, for the title of a table."""
    isa = "" if settings.isa == "native" else f", limited to {settings.isa.upper()}"
    return f"{settings.threads} thread(s){isa}, {processor_name()}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_results(
    name: str,
    settings: Settings,
    rows: Sequence[Row],
    extra: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Write ``<folder>/<name>.json``: conditions, rows, geometric mean and whatever ``extra`` holds."""
    document = {
        "name": name,
        "conditions": conditions(settings),
        "geometric_mean": geometric_mean(rows),
        "rows": [asdict(row) for row in rows],
        **(extra or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)
    print(f"written: {path}", file=sys.stderr)
    return path


def print_table(
    title: str, rows: Sequence[Row], extra_columns: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Milliseconds (median) of every engine, and the ratio to the best rival; then why an engine has no time."""
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row.engines))
    table = Table(title=title, title_justify="left")
    table.add_column("case")
    for column in [*names, "ratio", "quartiles", "best rival", *(extra_columns or {})]:
        table.add_column(column, justify="right")
    for index, row in enumerate(rows):
        extra = [values[index] for values in (extra_columns or {}).values()]
        table.add_row(row.case, *(_cell(row.engines.get(name)) for name in names), *_ratio_cells(row), *extra)
    out = console()
    out.print(table)
    mean = geometric_mean(rows)
    if mean is not None:
        out.print(f"geometric mean of the ratios: {mean:.2f}")
    reasons = [(n, m.status, m.detail) for row in rows for n, m in row.engines.items() if m.status != "ok"]
    for name, status, detail in dict.fromkeys(reasons):
        out.print(f"{name}: {status}: {detail}", markup=False)


def console() -> Any:
    """Where tables go: as wide as the terminal, or wide enough for every column in a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 180)


def _cell(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return measured.status if measured.median_ms is None else f"{measured.median_ms:.3f}"


def _ratio_cells(row: Row) -> tuple[str, str, str]:
    if row.ratio is None or row.ratio_quartiles is None:
        return "-", "-", row.best_rival or "-"
    low, high = row.ratio_quartiles
    return f"{row.ratio:.2f}", f"{low:.2f}-{high:.2f}", row.best_rival or "-"
