"""The one runner: loads a case into every engine, checks it there, lets them take turns, and forms the ratios."""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "fastconv"
OUR_TARGETS = {"native": "native", "avx2": "x86_64-linux-gnu -mcpu=haswell"}
UNLIMITED = {"onnxruntime": "cannot be limited: it asks the CPU alone"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure. ``engines`` may hold `OURS` and the names in `tvm_fastconv.rivals.RIVALS`."""

    engines: tuple[str, ...]
    threads: int = 1
    repeats: int = 11
    min_time: float = 0.1
    isa: str = "native"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model to measure: ``make`` returns (module, example inputs); ``facts`` are copied into the results.

    ``rivals`` are engines that know this case only: name to a function that builds one, which is a function of no
    arguments that returns its outputs. They are checked and timed like the others. ``make_dense`` returns what the
    engines of other makers run instead, where ours is a compressed form of it. ``forms`` are other modules with the
    same answers, by name, that those engines run as well: ``openvino dense`` beside ``openvino``.
    """

    name: str
    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    make_dense: Callable[[], tuple[Any, tuple[Any, ...]]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    rivals: Mapping[str, Callable[[], Callable[[], Any]]] = field(default_factory=dict)
    forms: Mapping[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine on one case: what `tvm_fastconv.rivals.Engine` says of it, and milliseconds if it was timed.

    ``layers_ms`` is filled for ours only.
    """

    status: str
    detail: str = ""
    error: float | None = None
    build_seconds: float = 0.0
    median_ms: float | None = None
    best_ms: float | None = None
    spread: float | None = None
    samples_ms: tuple[float, ...] = ()
    layers_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case: every engine, and the best rival's time over ours (None if there is no rival or ours failed).

    ``ratio`` compares medians; ``ratio_quartiles`` are those of the ratios turn by turn. A ratio outside its quartiles
    says that the machine was too busy to measure.
    """

    case: str
    facts: Mapping[str, Any]
    engines: Mapping[str, Measured]
    best_rival: str | None = None
    ratio: float | None = None
    ratio_quartiles: tuple[float, float] | None = None


def measure(case: Case, settings: Settings, beside: Mapping[str, Callable[[], object]] | None = None) -> Row:
    """Load, check and time one case in every engine; functions in ``beside`` take their turns too."""
    from tvm_fastconv.measure.rivals import build_callable, reference_outputs
    from tvm_fastconv.measure.timing import interleave

    module, inputs = case.make()
    reference = reference_outputs(module, inputs)
    theirs = (module, inputs, reference)
    if case.make_dense is not None:
        dense, dense_inputs = case.make_dense()
        theirs = (dense, dense_inputs, reference_outputs(dense, dense_inputs))
    engines = {
        name: _load(name, settings, *((module, inputs, reference) if name == OURS else theirs))
        for name in settings.engines
    }
    for form, make in case.forms.items():
        others = [name for name in settings.engines if name != OURS]
        engines |= {f"{name} {form}": _load(name, settings, *make(), reference) for name in others}
    for name, build in case.rivals.items():
        engines[name] = build_callable(name, build, reference=reference)
    runnable = {name: engine.run for name, engine in engines.items() if engine.status == "ok"}
    timings = interleave({**runnable, **(beside or {})}, settings.repeats, settings.min_time)
    return compare(case, {name: _measured(engine, timings.get(name)) for name, engine in engines.items()})


def _load(name: str, settings: Settings, module: Any, inputs: tuple[Any, ...], reference: Any) -> Any:
    from tvm_fastconv.measure.rivals import Engine, build_callable, build_rival

    if name == OURS:
        version = importlib.metadata.version("tvm-fastconv")
        return build_callable(
            name, lambda: Ours(module, inputs, settings), version=version, reference=reference
        )
    if settings.isa != "native" and name in UNLIMITED:
        return Engine(name=name, status="absent", detail=UNLIMITED[name])
    return build_rival(name, module, inputs, threads=settings.threads, reference=reference)


class Ours:
    """What a user ships, compiled, saved and loaded from the file, with its inputs."""

    def __init__(self, module: Any, inputs: tuple[Any, ...], settings: Settings, methods: Any = None) -> None:
        import tvm_fastconv as fc
        from tvm_fastconv.measure.bench import bound_call

        self._folder = tempfile.TemporaryDirectory()  # the file is mapped: it lives as long as this object
        path = Path(self._folder.name, "model.so")
        fc.compile(module, inputs, target=OUR_TARGETS[settings.isa], methods=methods).save(path)
        self._model = fc.load(path, threads=settings.threads)
        self._inputs, self._call = inputs, bound_call(self._model, inputs)

    def __call__(self) -> Any:
        """One inference."""
        return self._call()

    def reports(self) -> dict[str, Any]:
        """How each layer was compiled, by its name."""
        return {layer.name: layer for layer in self._model.layers}

    @property
    def machine(self) -> Any:
        """The processor it was compiled for, as the schedules see it."""
        import tvm

        from tvm_fastconv.topi.machines import machine_of

        return machine_of(tvm.target.Target(self._model.manifest.target))

    def layers_ms(self, repeat: int = 10) -> dict[str, float]:
        """Milliseconds by layer, and by function for what belongs to no layer: the best of ``repeat`` runs."""
        return self._model.profile(*self._inputs, repeat=repeat).layers


def _measured(engine: Any, timing: Any) -> Measured:
    known = {name: getattr(engine, name) for name in ("status", "detail", "error", "build_seconds")}
    if timing is None:
        return Measured(**known)
    return Measured(
        **known,
        median_ms=timing.median * 1e3,
        best_ms=timing.best * 1e3,
        spread=timing.spread,
        samples_ms=tuple(seconds * 1e3 for seconds in timing.samples),
        layers_ms=engine.run.layers_ms() if isinstance(engine.run, Ours) else {},
    )


def compare(case: Case, engines: Mapping[str, Measured]) -> Row:
    """Find the best rival and how many times its time ours is."""
    times = {name: m.median_ms for name, m in engines.items() if m.median_ms is not None}
    rivals = {name: median for name, median in times.items() if name != OURS}
    if not rivals:
        return Row(case=case.name, facts=case.facts, engines=engines)
    best = min(rivals, key=rivals.__getitem__)
    if OURS not in times:
        return Row(case=case.name, facts=case.facts, engines=engines, best_rival=best)
    turns = [a / b for a, b in zip(engines[best].samples_ms, engines[OURS].samples_ms, strict=True)]
    quartiles = statistics.quantiles(turns, n=4, method="inclusive") if len(turns) > 1 else turns * 3
    return Row(
        case=case.name,
        facts=case.facts,
        engines=engines,
        best_rival=best,
        ratio=rivals[best] / times[OURS],
        ratio_quartiles=(quartiles[0], quartiles[-1]),
    )


def geometric_mean(rows: Sequence[Row]) -> float | None:
    """Of the ratios; None if a row has none, since a mean without the failures would flatter."""
    ratios = [row.ratio for row in rows]
    if not ratios or None in ratios:
        return None
    return statistics.geometric_mean(ratio for ratio in ratios if ratio is not None)
