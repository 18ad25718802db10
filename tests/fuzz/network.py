"""A random network as data, and the draft that turns it into a program.

A network is its inputs and its steps. A step holds only the name of an operator, a seed for its parameters and the
value it reads, so a step can be left out: those after it draw their parameters again, for the shapes they meet then.
The draft runs what it writes, so an operator sees the values it will be given and can keep away from thresholds.
"""

import itertools
import random
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

T = TypeVar("T")

ELEMENTS = 20_000
"""Of the largest value: what is small compiles and runs in no time."""

LARGEST, SMALLEST = 1e4, 1e-2
"""Between which the largest value of a tensor lies; further out float32 itself is the topic."""

SCOPE = {"torch": torch, "nn": nn, "F": functional}


@dataclass(frozen=True)
class Input:
    """One input: an expression that draws it, after ``torch.manual_seed(seed)``."""

    expression: str
    seed: int


@dataclass(frozen=True)
class Step:
    """One operator: its own number, and that of the value it reads."""

    number: int
    operator: str
    seed: int
    reads: int


@dataclass(frozen=True)
class Network:
    """Inputs and steps. Values are numbered: inputs from 0 on, then the steps."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Value:
    """A value of the network under its name in the program."""

    name: str
    data: torch.Tensor

    def __str__(self) -> str:
        return self.name

    @property
    def shape(self) -> torch.Size:
        """Of the example."""
        return self.data.shape


class Draft:
    """A program being written, and run while it is written."""

    def __init__(self, network: Network) -> None:
        self.network, self.module = network, nn.Module()
        self.values: dict[int, Value] = {}
        self.setup: list[str] = []
        self.forward: list[str] = []
        self.layers: list[str] = []
        self.steps: list[Step] = []
        for number, given in enumerate(network.inputs):
            torch.manual_seed(given.seed)
            self.values[number] = Value(f"x{number}", eval(given.expression, dict(SCOPE)))

    def add(self, step: Step, operator: "Callable[[Draw, Value], str | None]") -> bool:
        """Write a step, if its operator takes what it reads; return whether it does."""
        # Where a step was left out, the one before it is read.
        reads = max(number for number in self.values if number <= step.reads)
        draw = Draw(self, step)
        try:
            expression = operator(draw, self.values[reads])
            result = None if expression is None else self._run(expression)
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
            return False  # PyTorch does not take it either
        if result is None or not _is_tame(result):
            return False
        name = f"v{step.number}"
        self.values[step.number] = Value(name, result)
        if draw.lines:
            self.setup += [f"torch.manual_seed({step.seed})", *draw.lines]
        self.layers += draw.layers
        self.forward.append(f"{name} = {expression}")
        self.steps.append(step)
        return True

    def prepare(self, lines: list[str], seed: int) -> None:
        """Make a layer."""
        torch.manual_seed(seed)
        for line in lines:
            exec(line, {**SCOPE, "self": self.module})
        self.module.eval()

    def _run(self, expression: str) -> Any:
        names = {value.name: value.data for value in self.values.values()}
        with torch.no_grad():
            return eval(expression, {**SCOPE, **names, "self": self.module})

    def outputs(self) -> list[str]:
        """Return the values that nothing reads; an input is no output."""
        text = " ".join(line.partition("=")[2] for line in self.forward)
        words = set("".join(c if c.isalnum() else " " for c in text).split())
        return [line.partition(" ")[0] for line in self.forward if line.partition(" ")[0] not in words]


@dataclass
class Draw:
    """What an operator draws its parameters from and writes its layers into."""

    draft: Draft
    step: Step
    lines: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.step.seed)

    def choice(self, *options: T) -> T:
        """Draw one of several."""
        return self.rng.choice(options)

    def number(self, low: float, high: float) -> float:
        """Draw a number of three digits, which its text says in full."""
        return float(f"{self.rng.uniform(low, high):.3g}")

    def sides(self, low: int, high: int, count: int = 2) -> tuple[int, ...]:
        """Draw one integer for each axis of an image, equal ones half of the time."""
        first = self.rng.randint(low, high)
        return tuple(first if self.rng.random() < 0.5 else self.rng.randint(low, high) for _ in range(count))

    def layer(self, made: str, *after: str) -> str:
        """Write a layer and what is done to it (``{}`` is its name) into the constructor; return its name."""
        name = f"self.m{self.step.number}" + "abc"[len(self.layers)] * bool(self.layers)
        lines = [f"{name} = {made}", *(line.replace("{}", name) for line in after)]
        self.draft.prepare(lines, self.step.seed)
        self.lines += lines
        self.layers.append(name)
        return name

    def partner(self, accepts: Callable[[Value], bool]) -> Value | None:
        """Draw an earlier value; which one depends as little as possible on what else there is."""
        order = sorted(self.draft.values, key=lambda n: random.Random(self.step.seed * 1000 + n).random())
        return next((v for n in order if accepts(v := self.draft.values[n])), None)


def _is_tame(value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or not 0 < value.numel() <= ELEMENTS:
        return False
    largest = value.abs().max().item() if value.dtype != torch.bool else 1.0
    return largest <= LARGEST and (not value.is_floating_point() or largest >= SMALLEST)


def program(drafts: Sequence[Draft]) -> str:
    """Return source code that defines ``Net``, with the outputs of all the networks, and ``inputs``."""
    lines = ["import torch", "from torch import nn", "from torch.nn import functional as F"]
    one = len(drafts) == 1
    for index, draft in enumerate(drafts):
        lines += ["", "", *_class("Net" if one else f"Net{index}", draft)]
    if not one:
        lines += ["", "", *_joined(drafts)]
    lines += ["", "", "inputs = []"]
    for given in (given for draft in drafts for given in draft.network.inputs):
        lines += [f"torch.manual_seed({given.seed})", f"inputs.append({given.expression})"]
    return "\n".join(lines)


def _class(name: str, draft: Draft) -> Iterator[str]:
    yield f"class {name}(nn.Module):"
    yield "    def __init__(self):"
    yield "        super().__init__()"
    yield from (f"        {line}" for line in draft.setup)
    yield ""
    yield f"    def forward(self, {_names(0, len(draft.network.inputs))}):"
    yield from (f"        {line}" for line in draft.forward)
    yield f"        return ({', '.join(draft.outputs())},)"


def _joined(drafts: Sequence[Draft]) -> Iterator[str]:
    """A module of several networks, each with inputs of its own."""
    ends = list(itertools.accumulate((len(draft.network.inputs) for draft in drafts), initial=0))
    calls = [f"*self.n{i}({_names(*ends[i : i + 2])})" for i in range(len(drafts))]
    yield "class Net(nn.Module):"
    yield "    def __init__(self):"
    yield "        super().__init__()"
    yield from (f"        self.n{index} = Net{index}()" for index in range(len(drafts)))
    yield ""
    yield f"    def forward(self, {_names(0, ends[-1])}):"
    yield f"        return ({', '.join(calls)},)"


def _names(first: int, end: int) -> str:
    return ", ".join(f"x{number}" for number in range(first, end))


def load(source: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """Run a program; return its network, in eval mode, and its inputs."""
    module = types.ModuleType("network")
    exec(source, module.__dict__)
    return module.Net().eval(), module.inputs
