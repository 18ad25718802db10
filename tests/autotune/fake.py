"""A runner that measures nothing: times are a function of the knobs, so that searches can be tested."""

import hashlib
import math
from collections.abc import Callable, Sequence

from tvm_fastconv.autotune.candidate import Candidate, Device, Group, Outcome, Task
from tvm_fastconv.autotune.model_times import ModelTimes
from tvm_fastconv.autotune.records import Conditions
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.machines import machine_of

from ..topi.operator_cases import CASES

TARGET = "x86_64-linux-gnu -mcpu=znver4 -num-cores=2"
DEVICE = Device(TARGET, machine_of(resolve_target(TARGET)))
CONDITIONS = Conditions(cpu="-mcpu=znver4", threads=1, package="0", tvm="0")
CLOCK = 1e9


def task(name: str) -> Task:
    return Task(*CASES[name])


def groups_for(device: Device) -> list[Group]:
    """Trials of three operators, and a contest."""
    groups = []
    for name in ("conv2d", "bitserial_conv2d", "depthwise_conv2d"):
        search = Search(task(name), device)
        groups += [Group((candidate,), 3) for candidate in search.propose(2, None)]
        other = search.propose(1, None)
    contest = Group((Candidate(other[0].task, search.default), *other), 7, 1 << 16)
    return [*groups, contest]


def chance(text: str) -> float:
    """The same number from 0 to 1 for the same text, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def landscape(candidate: Candidate) -> float:
    """Seconds that follow the estimate, bent where it knows nothing: narrow tiles are cheap, strips have a best."""
    knobs, problem = candidate.knobs, candidate.task.problem
    seconds = knobs.cycles(problem, DEVICE.machine) / CLOCK
    width, strip = getattr(knobs, "tile_w", 1), getattr(knobs, "strip", 1)
    bend = (1 + 0.02 * width) * (1 + 0.1 * abs(math.log2(strip) - 1))
    return seconds * bend * (1 + 0.02 * chance(knobs.to_json()))


class FakeRunner:
    """Asks ``landscape`` in place of a device; None is a candidate that fails."""

    def __init__(self, times: Callable[[Candidate], float | None] = landscape, width: int = 2) -> None:
        self.device, self.width, self.times = DEVICE, width, times
        self.clock, self.processor = CLOCK, "a core"
        self.tried: list[Candidate] = []
        self.compared: list[Candidate] = []
        self.footprints: list[int] = []

    def run(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        self.tried += candidates
        found = [self.times(candidate) for candidate in candidates]
        return [Outcome(seconds, None if seconds else "it broke") for seconds in found]

    def compare(
        self, candidates: Sequence[Candidate], turns: int, footprint: int
    ) -> list[list[float]] | None:
        self.compared += candidates
        self.footprints.append(footprint)
        found = [self.times(candidate) or 1.0 for candidate in candidates]
        return [[seconds * (1 + 0.001 * turn) for turn in range(turns)] for seconds in found]

    def time_models(
        self, models: Sequence[CompiledModel], inputs: Sequence[object], turns: int
    ) -> list[ModelTimes]:
        """Whole networks are not timed: no test depends on how fast a machine is."""
        return [
            ModelTimes([1.0] * turns, {layer.name: [1.0] * turns for layer in model.layers})
            for model in models
        ]

    def close(self) -> None:
        """There is nothing to let go of."""
