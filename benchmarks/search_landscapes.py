"""Landscapes: how long each candidate of a layer takes, measured once, so that searches can be replayed on them.

They are kept in a file of JSON lines, one for each time. What the file holds is not measured again, so that a
measurement that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .search_layers import Layer

if TYPE_CHECKING:
    from tvm_fastconv.autotune.candidate import Device, Task
    from tvm_fastconv.autotune.local_runner import Runner
    from tvm_fastconv.topi.knobs import KnobSet

WHOLE = 600
"""Spaces of so many members are measured whole; of larger ones, members that chance chooses, and the default."""

ROUNDS, REPEATED = 3, 0.25
"""All members are timed in the first round; the fastest part of them again in each other one, each newly built."""

BATCH = 8
"""Candidates after which the file is written."""

Samples = dict[str, list[float | None]]
"""Knobs as JSON → seconds of each round, ``None`` where they failed."""


@dataclass(frozen=True)
class Landscape:
    """A layer and the times of its candidates.

    Attributes
    ----------
    name : str
        Of the layer.
    task : Task
    default : KnobSet
    legal : int
        Members of the whole space.
    times : dict
        Knobs → the least seconds of all rounds; ``None`` where they failed.
    noise : float
        Median over what was repeated of the largest time over the least, less 1.
    """

    name: str
    task: Task
    default: KnobSet
    legal: int
    times: dict[KnobSet, float | None]
    noise: float

    @property
    def best(self) -> float:
        """Seconds of the fastest."""
        return min(seconds for seconds in self.times.values() if seconds is not None)

    @property
    def default_seconds(self) -> float:
        """Seconds of the default; infinite where it failed."""
        return self.times[self.default] or math.inf


def members(task: Task, device: Device, sample: int, known: Container[str] = ()) -> tuple[list[KnobSet], int]:
    """What is measured of a task's space, its default first, and how many members the whole space has.

    The order is by chance: a machine whose speed drifts shall not favour neighbours.

    Parameters
    ----------
    sample : int
        Members of a space of more than `WHOLE`; every member is as likely as the others.
    known : container of str
        Knobs as JSON that have been measured, which come before others: another default adds but itself.
    """
    from tvm_fastconv.topi.operators import operator_of

    kind = operator_of(device.machine.kind, task.op).knobs
    default = kind.default(task.problem, device.machine)
    space = list(dict.fromkeys([*kind.space(task.problem, device.machine), default]))
    kept = [default, *(knobs for knobs in space if knobs.to_json() in known)]
    order = dict.fromkeys([*kept, *random.Random(0).sample(space, len(space))])
    count = len(space) if len(space) <= WHOLE else max(sample, len(set(kept)))
    return list(order)[:count], len(space)


def measure(layers: Mapping[str, Layer], sample: int, runner: Runner, path: Path, round_number: int) -> None:
    """Time what a round asks for and ``path`` lacks.

    Parameters
    ----------
    sample : int
        As `members` takes it.
    round_number : int
        From 0, whose times choose what the others repeat.
    """
    from tvm_fastconv.autotune.candidate import Candidate, Task

    for name, layer in layers.items():
        task, known = Task(*layer), read(path).get(name, {})
        asked, _ = members(task, runner.device, sample, known)
        if round_number:
            asked = fastest(asked, known)
        left = [knobs for knobs in asked if len(known.get(knobs.to_json(), ())) <= round_number]
        for first in range(0, len(left), BATCH):
            batch = [Candidate(task, knobs) for knobs in left[first : first + BATCH]]
            outcomes = runner.run(batch)
            append(path, name, [(c.knobs, o.seconds) for c, o in zip(batch, outcomes, strict=True)])
        print(f"{name}: round {round_number + 1}, {len(left)} candidates", flush=True)


def fastest(knobs: Sequence[KnobSet], known: Samples) -> list[KnobSet]:
    """The default, which is the first, and the fastest part of the others by their first times."""
    first = {each: known.get(each.to_json(), [None])[0] or math.inf for each in knobs}
    timed = sorted((each for each in knobs if first[each] < math.inf), key=first.__getitem__)
    return list(dict.fromkeys([knobs[0], *timed[: round(REPEATED * len(knobs))]]))


def append(path: Path, name: str, times: Iterable[tuple[KnobSet, float | None]]) -> None:
    """Add times of a layer to the file."""
    with path.open("a") as file:
        for knobs, seconds in times:
            line = {"layer": name, "knobs": json.loads(knobs.to_json()), "seconds": seconds}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(path: Path) -> dict[str, Samples]:
    """Name of the layer → what the file holds of it."""
    found: dict[str, Samples] = defaultdict(lambda: defaultdict(list))
    for text in path.read_text().splitlines() if path.exists() else ():
        line: dict[str, Any] = json.loads(text)
        if "layer" in line:
            key = json.dumps(line["knobs"], sort_keys=True, separators=(",", ":"))
            found[line["layer"]][key].append(line["seconds"])
    return found


def conditions(path: Path) -> list[dict[str, Any]]:
    """Those of each time that measuring began."""
    lines = map(json.loads, path.read_text().splitlines())
    return [line["conditions"] for line in lines if "conditions" in line]


def load(layers: Mapping[str, Layer], sample: int, device: Device, path: Path) -> list[Landscape]:
    """The landscapes of layers.

    Raises
    ------
    LookupError
        The file lacks a time; ``measure`` goes on with it.
    """
    from tvm_fastconv.autotune.candidate import Task

    samples = read(path)
    found = []
    for name, layer in layers.items():
        task, known = Task(*layer), samples.get(name, {})
        asked, legal = members(task, device, sample, known)
        if missing := [knobs for knobs in asked if knobs.to_json() not in known]:
            raise LookupError(
                f"{path} lacks {len(missing)} of {len(asked)} times of {name}: measure it first"
            )
        rounds = {knobs: [s for s in known[knobs.to_json()] if s is not None] for knobs in asked}
        times = {knobs: min(seconds, default=None) for knobs, seconds in rounds.items()}
        apart = [max(seconds) / min(seconds) - 1 for seconds in rounds.values() if len(seconds) > 1]
        noise = statistics.median(apart) if apart else math.nan
        found.append(Landscape(name, task, asked[0], legal, times, noise))
    return found
