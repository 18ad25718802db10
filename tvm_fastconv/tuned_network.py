"""A model as tuning sees it: which tasks run under some records, and what else was asked."""

from collections import Counter

from tvm_fastconv.autotune.candidate import Task
from tvm_fastconv.autotune.network import Dispatched
from tvm_fastconv.relay_passes.module.asked_problems import asked_problems, bytes_touched
from tvm_fastconv.topi.planner import Records

from .prepare import Prepared


class TunedNetwork:
    """A prepared model.

    Parameters
    ----------
    prepared : Prepared
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def dispatched(self, records: Records) -> Dispatched:
        """What runs under ``records``."""
        planner = self.prepared.planner(records)
        fused = self.prepared.dispatched(planner)
        calls = asked_problems(fused)
        compared = [Task(op, problem) for op, problem in planner.questions]
        running = Counter({task: calls[task.key] for task in compared if task.key in calls})
        return Dispatched(running, compared, bytes_touched(fused))
