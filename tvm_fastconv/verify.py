"""Compare what the compiled file computes with the source model, and find the first layer that differs."""

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax

from .build import lower_passes
from .cpu import missing_features
from .errors import FastconvError
from .frontend import ImportedModel
from .notices import notify
from .plain_run import Arrays, plain_run
from .relay_passes.graph import static_shape
from .relay_passes.perturb_decisions import PerturbDecisions
from .relay_passes.thresholds import decides
from .runtime import CompiledModel
from .targets import cpu_features

TOLERANCE = 1e-3
"""Error allowed, relative to the largest output. Float32 sums in another order drift to 1e-6 in ResNet-18 and, over
four hundred random networks, to 1.2e-4 where outputs cancel; a wrong layer is off by 1e-2 and more."""

NOISE, TRIALS = 1e-6, 8
"""A value this close to a threshold, relative to the layer's largest, may turn its bit, and the outputs with it."""


def expected_outputs(imported: ImportedModel, target: tvm.target.Target) -> tuple[Arrays | None, str]:
    """What the source model answers on its example inputs, or ``None`` and the reason why nothing is compared.

    PyTorch computes it for what came from PyTorch, the imported graph without any pass of ours for the rest.
    """
    if imported.example_inputs is None:
        return None, "not verified: no example inputs"
    if not all(np.isfinite(x).all() for x in imported.example_inputs):
        notify("the compiled model is not verified: the example inputs hold NaN or infinity")
        return None, "not verified: the example inputs hold NaN or infinity"
    if missing := missing_features(cpu_features(target)):
        return None, f"not verified: this machine lacks {', '.join(missing)}"
    return _reference(imported, target)(*imported.example_inputs), ""


def changed_by_signs(imported: ImportedModel, expected: Arrays) -> float:
    """How far ``expected``, with +1 for sign(0), is from PyTorch's outputs, relative to the largest; 0 if unknown."""
    if imported.reference is None or imported.example_inputs is None:
        return 0.0
    return _largest_move(imported.reference(*imported.example_inputs), expected)


def _reference(imported: ImportedModel, target: tvm.target.Target) -> Callable[..., Arrays]:
    return imported.reference or _plain(imported.mod, target)


def _plain(mod: tvm.IRModule, target: tvm.target.Target) -> Callable[..., Arrays]:
    return plain_run(mod, str(target.attrs["mtriple"]))


def verify_outputs(
    compiled: CompiledModel,
    imported: ImportedModel,
    expected: Arrays,
    fused: tvm.IRModule,
    scheduled: tvm.IRModule,
    calls: Sequence[tuple[str, str | None]],
) -> str:
    """Run ``compiled`` on the example inputs and compare.

    Parameters
    ----------
    fused, scheduled : IRModule
        The graph before and after scheduling, to find the first call that differs.
    calls : sequence
        For every call of ``main``, its function and its layer.

    Returns
    -------
    str
        The line that the manifest records.

    Raises
    ------
    FastconvError
        An output is further off than `TOLERANCE`.
    """
    error = compiled.check()
    if error <= TOLERANCE:
        source = "PyTorch" if imported.reference is not None else "the imported graph"
        return f"verified against {source}: largest error {error:.1e} of the largest output"
    target = tvm.target.Target(compiled.manifest.target)
    inputs = imported.example_inputs or ()
    if decides(imported.mod) and (moved := _unrest(imported.mod, target, inputs, error / 2)) >= error / 2:
        return (
            f"differs by {error:.1e} of the largest output, as the source itself does ({moved:.1e}) when its inputs "
            f"and sums are off by {NOISE:.0e}: some values lie on a threshold"
        )
    culprit = first_difference(_trace(fused, target, inputs), _trace(scheduled, target, inputs), calls)
    where = (
        f"first in {culprit}"
        if culprit
        else "yet every compiled function agrees with its unscheduled form: a graph pass changed the model"
    )
    raise FastconvError(
        f"the compiled model is wrong by {error:.1e} of its largest output (allowed: {TOLERANCE:.0e}), {where}. "
        "This is a bug in tvm-fastconv; compile with verify=False to look at the result nevertheless"
    )


def _unrest(mod: tvm.IRModule, target: tvm.target.Target, inputs: Arrays, enough: float) -> float:
    """How far the outputs of the source move, relative to the largest, when its inputs and sums are off by `NOISE`."""
    perturbed = tvm.transform.Sequential([PerturbDecisions()])(mod)
    rng, run, moved = np.random.default_rng(0), _plain(perturbed, target), 0.0
    shapes = [static_shape(param) or () for param in perturbed["main"].params[len(inputs) :]]
    still = run(*inputs, *(np.zeros(shape, np.float32) for shape in shapes))
    for _ in range(TRIALS):
        noisy = [
            x + (np.abs(x).max() * _noise(rng, x.shape)).astype(x.dtype)
            if x.dtype.kind == "f" and x.size
            else x
            for x in inputs
        ]
        moved = max(moved, _largest_move(still, run(*noisy, *(_noise(rng, shape) for shape in shapes))))
        if moved >= enough:
            break
    return moved


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(NOISE * rng.standard_normal(shape, np.float32))


def _largest_move(still: Arrays, moved: Arrays) -> float:
    moves = [
        np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)
        / max(np.abs(a).max(initial=0), 1e-30)
        for a, b in zip(still, moved, strict=True)
    ]
    return float(max(moves, default=0.0))


Results = Sequence[tuple[str, np.ndarray]]
"""Function and result of each call that ran."""


def first_difference(want: Results, got: Results, calls: Sequence[tuple[str, str | None]]) -> str | None:
    """Layer or function of the first call whose result differs by more than `TOLERANCE` of its largest value."""
    remaining = iter(calls)
    for (function, expected), (_, actual) in zip(want, got, strict=True):
        layer = next(
            (layer for name, layer in remaining if name == function), None
        )  # views are calls that never run
        if not np.abs(actual - expected).max() <= TOLERANCE * max(np.abs(expected).max(), 1e-30):
            return layer or function
    return None


def _trace(mod: tvm.IRModule, target: tvm.target.Target, inputs: Arrays) -> Results:
    """The result of every call of a PrimFunc, in order."""
    functions = {var.name_hint for var, func in mod.functions.items() if isinstance(func, tvm.tirx.PrimFunc)}
    with target:
        lowered = tvm.transform.Sequential(lower_passes())(mod)
    machine = relax.VirtualMachine(tvm.compile(lowered, target, relax_pipeline=None), tvm.cpu())
    results: list[tuple[str, np.ndarray]] = []

    def record(
        _function: object, name: str, before: bool, _result: object, *args: tvm.runtime.Tensor
    ) -> None:
        if not before and name in functions:
            results.append((name, args[-1].numpy().astype(np.float64)))

    machine.set_instrument(record)
    machine["main"](*map(tvm.runtime.tensor, inputs))
    return results
