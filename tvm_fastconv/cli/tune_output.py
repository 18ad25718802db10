"""What ``fastconv tune`` has found, for people and for scripts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import print_facts, print_json, print_table

if TYPE_CHECKING:
    from tvm_fastconv.autotune.records import Verdict


def print_found(facts: dict[str, object], verdicts: Sequence["Verdict"], json: bool) -> None:
    """Print verdicts that are not the default, and ``facts``; with ``json`` all of them."""
    if json:
        from tvm_fastconv.typed_json import to_json

        print_json(facts | {"verdicts": [to_json(verdict) for verdict in verdicts]})
        return
    kept = [verdict for verdict in verdicts if verdict.ratio != 1]
    if kept:
        rows = [(v.op, f"{v.ratio:.3f}", f"{v.low:.3f} to {v.high:.3f}", v.knobs) for v in kept]
        print_table(("operator", "times faster", "interval of 95 %", "knobs"), rows)
    print_facts(facts)
