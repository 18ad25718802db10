"""A row of the table of processors, measured: what instructions, memory, calls and threads cost on this machine."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, te, tirx

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.runtime.threads import use_threads
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import machine_of

from .roofline import PROBE_SECONDS, REPEATS, Probe, build_library, memory_levels, probe_buffer
from .timing import interleave

CALLS = (2, 66)
"""Calls of two functions of our virtual machine whose difference in time is that of the rest."""


def measure_machine() -> Machine:
    """What the table says of this machine, with what was measured in its place; takes half a minute.

    Raises
    ------
    FastconvError
        There is no C compiler, or ``native`` stands for another machine.
    """
    target = resolve_target("native")
    table = machine_of(target)
    try:
        library = build_library()
    except RuntimeError as error:
        raise FastconvError(f"this machine cannot be measured: {error}") from error
    if library.vector_lanes() != table.lanes:
        raise FastconvError(
            f"this machine has vectors of {library.vector_lanes()} floats, what native stands for {table.lanes}"
        )
    rates = _rates(library)
    clock = rates["clock"]
    measured = replace(table, name=f"{table.name}-measured", **_arithmetic(rates, table), **_memory(rates))
    calls = _seconds_between(*(_calls(count, target) for count in CALLS)) / (CALLS[1] - CALLS[0])
    measured = replace(measured, call_cycles=max(1, round(calls * clock)))
    if int(target.attrs["num-cores"]) > 1:
        waking = _seconds_between(_loop(target, parallel=False), _loop(target, parallel=True))
        measured = replace(measured, wake_cycles=max(1, round(waking * clock)))
    return measured


def figure(value: float, digits: int) -> float:
    """``value`` rounded to so many digits behind the point, and not to 0."""
    return max(round(value, digits), 10.0**-digits)


def _rates(library: ctypes.CDLL) -> dict[str, float]:
    """Cycles, vectors and bytes in a second, the best of several turns."""
    levels = memory_levels()
    with contextlib.ExitStack() as stack:
        buffers = {level: stack.enter_context(probe_buffer(library, size)) for level, size in levels.items()}

        def work(function: Any, *arguments: Any) -> Probe:
            return Probe(lambda rounds: function(*arguments, ctypes.c_long(rounds)))

        def through(function: Any, level: str) -> Probe:
            return work(function, buffers[level], ctypes.c_size_t(levels[level]))

        probes = {
            "clock": work(library.add_chain),
            "fma": work(library.multiply_add),
            "fma chain": work(library.multiply_add_chain),
            "half fma": work(library.half_multiply_add),
            "popcount": work(library.xor_popcount),
            "gather": work(library.gather, buffers["L1"]),
            "scattered L1": through(library.read_scattered, "L1"),
            "scattered L2": through(library.read_scattered, "L2"),
            "L2": through(library.copy_memory, "L2"),
            "L3": through(library.read_memory, "L3"),
            "DRAM": through(library.read_memory, "DRAM"),
        }
        if library.byte_products(ctypes.c_long(1)):
            probes["byte products"] = work(library.byte_products)
        interleave({name: probe.run for name, probe in probes.items()}, REPEATS, min_time=PROBE_SECONDS)
    rates = {name: 1e9 * probe.best_rate for name, probe in probes.items()}
    rates["fma"] /= 2 * library.vector_lanes()
    rates["popcount"] /= 32 * library.vector_lanes()
    return rates


def _arithmetic(rates: dict[str, float], table: Machine) -> dict[str, Any]:
    """Fields of the core."""

    def cost(name: str) -> float:
        return figure(rates["fma"] / rates[name], 2)

    per_cycle = rates["fma"] / rates["clock"]
    popcount = "word_popcount_cost" if table.counts_words else "byte_popcount_cost"
    fields = {
        "fma_per_cycle": figure(per_cycle, 2),
        "sums_in_flight": max(1, round(per_cycle * rates["clock"] / rates["fma chain"])),
        "half_vector_cost": min(1.0, cost("half fma")),
        popcount: cost("popcount"),
        "gather_cost": cost("gather"),
        "scattered_load_cost": cost("scattered L1"),
        "l2_load_factor": round(max(1.0, rates["scattered L1"] / rates["scattered L2"]), 2),
    }
    return fields | ({"dot_product_cost": cost("byte products")} if "byte products" in rates else {})


def _memory(rates: dict[str, float]) -> dict[str, Any]:
    """Sizes and bandwidths; of the last cache, which others share, half counts."""
    levels = memory_levels()
    return {
        "l1_bytes": 2 * levels["L1"],
        "l2_bytes": 2 * levels["L2"],
        "l3_bytes": levels["L3"],
        "l2_bandwidth": figure(rates["L2"] / rates["clock"], 1),
        "l3_bandwidth": figure(rates["L3"] / rates["clock"], 1),
        "memory_bandwidth": figure(rates["DRAM"] / rates["clock"], 1),
    }


def _seconds_between(short: Callable[[], object], long: Callable[[], object]) -> float:
    times = interleave({"short": short, "long": long}, REPEATS, min_time=PROBE_SECONDS)
    return max(0.0, times["long"].best - times["short"].best)


def _calls(count: int, target: tvm.target.Target) -> Callable[[], object]:
    """A network of so many functions that do next to nothing."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((16,), "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            value = x
            for _ in range(count):
                value = bb.emit_te(lambda a: te.compute(a.shape, lambda i: a[i] + 1.0, name="more"), value)
            out = bb.emit_output(value)
        bb.emit_func_output(out)
    with target, tvm.transform.PassContext(opt_level=3):
        lowered = tvm.transform.Sequential(pipeline.lower())
        executable = tvm.compile(bb.get(), target, relax_pipeline=lowered)
    run, data = relax.VirtualMachine(executable, tvm.cpu())["main"], tvm.runtime.empty((16,), "float32")
    return lambda: run(data)


def _loop(target: tvm.target.Target, parallel: bool) -> Callable[[], object]:
    """Two tasks that do next to nothing, one after the other or at once."""
    x = te.placeholder((2, 16), "float32", name="x")
    more = te.compute(x.shape, lambda i, j: x[i, j] + 1.0, name="more")
    sch = tvm.s_tir.Schedule(te.create_prim_func([x, more]))
    if parallel:
        sch.parallel(sch.get_loops(sch.get_sblock("more"))[0])
    func: tirx.PrimFunc = sch.mod["main"].with_attr("global_symbol", "main")
    library = tvm.compile(func, target=target)
    use_threads(2, tvm_ffi)
    arrays = [tvm.runtime.empty((2, 16), "float32") for _ in range(2)]
    return lambda: library(*arrays)
