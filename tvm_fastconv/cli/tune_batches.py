"""``fastconv tune --export-batch`` and ``--import-batch``: for a device that no network reaches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import progress
from .tune_output import print_found

if TYPE_CHECKING:
    from tvm_fastconv.autotune.records import Verdict


def batches(
    model: str,
    inputs: Any,
    common: dict[str, Any],
    folder: str | None,
    results: str | None,
    trials: int | None,
    seed: int,
    program: bool,
    json: bool,
) -> None:
    """Take the results of one batch, and write the next; arguments as for `tune_verb`, ``common`` by name."""
    from tvm_fastconv.batch_tuning import TRIALS, export_batch, import_batch

    facts: dict[str, object] = {"records": common["records"]}
    verdicts: Sequence[Verdict] = ()
    with progress("importing") as show:
        if results is not None:
            taken = import_batch(model, inputs, results=results, progress=show, **common)
            verdicts = taken.verdicts
            facts |= {"trials": taken.trials, "failed": sum(taken.failures.values())}
            if taken.failures:
                facts["because"] = "; ".join(f"{count} × {why}" for why, count in taken.failures.items())
            facts |= {"known already": taken.known, "not of this model": taken.alien}
            facts["faster than default"] = (
                f"{sum(v.ratio != 1 for v in verdicts)} of {len(verdicts)} problems"
                if verdicts
                else "nothing new"
                if not taken.trials
                else "not decided: the next batch holds contests"
            )
        if folder is not None:
            written = export_batch(
                model,
                inputs,
                folder=folder,
                trials=trials or TRIALS,
                seed=seed,
                program=program,
                progress=show,
                **common,
            )
            facts["batch"] = f"{folder}: {written.jobs} trials and contests, {written.bytes / 1e6:.1f} MB"
            facts["on the device"] = "./measure" if program else "python3 measure.pyz"
            if not written.jobs:
                facts |= {"batch": "nothing is left to try", "on the device": "compile with --records"}
    print_found(facts, verdicts, json)
