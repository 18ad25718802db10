"""``fastconv targets``: what may be compiled for, and what is known of this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tvm_fastconv.errors import InputError

from .arguments import Json
from .output import print_facts, print_json, print_table, progress

if TYPE_CHECKING:
    import tvm

    from tvm_fastconv.topi.machine import Machine


def targets_verb(
    target: Annotated[str, typer.Argument(help="The target to explain.")] = "native",
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine instead.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Where --measure writes what --target and --machine take."),
    ] = None,
    json: Json = False,
) -> None:
    """Explain a target and list what else may be written in its place, or measure this machine."""
    if measure:
        if target != "native":
            raise InputError(
                f"only this machine can be measured, not {target!r}; allowed with --measure: native"
            )
        _measure(output, json)
        return
    if output is not None:
        raise InputError("-o is where --measure writes; give both, or neither")
    _explain(target, json)


def _explain(target: str, json: bool) -> None:
    from tvm_fastconv.gpu_targets import is_cuda
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import architecture, cpu_features, known_cpus, known_tags, triple_of
    from tvm_fastconv.topi.gpu import GPUS

    resolved, machine = target_and_machine(target)
    if is_cuda(resolved):
        _explain_gpu(target, resolved, machine, json)
        return
    triple = triple_of(resolved)
    facts: dict[str, object] = {
        "target": target,
        "triple": triple,
        "mcpu": str(resolved.attrs.get("mcpu", "")),
        "mattr": [str(item) for item in resolved.attrs.get("mattr", ())],
        "cores": int(resolved.attrs["num-cores"]),
        "float32_lanes": machine.lanes,
        "vector_registers": machine.registers,
        "machine": machine.name,
        "cpu_features": list(cpu_features(resolved)),
        f"mcpu_for_{architecture(resolved)}": list(known_cpus(triple)),
        "tags": list(known_tags()),
        "gpus": list(GPUS),
    }
    _print(facts, json)


def _print(facts: dict[str, object], json: bool) -> None:
    if json:
        print_json(facts)
    else:
        print_facts(
            {name: " ".join(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
        )


def _explain_gpu(target: str, resolved: "tvm.target.Target", machine: "Machine", json: bool) -> None:
    from tvm_fastconv.gpu_targets import arches_of
    from tvm_fastconv.runtime.gpu import compute_capability, device_name
    from tvm_fastconv.targets import triple_of
    from tvm_fastconv.topi.gpu import GPUS

    present = compute_capability()
    facts: dict[str, object] = {
        "target": target,
        "machine_code": [f"sm_{arch}" for arch in arches_of(resolved)],
        "machine": machine.name,
        "triple": triple_of(resolved),
        "gpu_here": "none" if present is None else f"{device_name()} (sm_{present})",
        "gpus": list(GPUS),
    }
    _print(facts, json)


def _measure(output: str | None, json: bool) -> None:
    from tvm_fastconv.artifact.artifact import check_output_path
    from tvm_fastconv.machine_files import SUFFIX, write_machine

    if output is not None:
        check_output_path(output)
        if not output.endswith(SUFFIX):
            raise InputError(f"cannot write a machine to {output}; allowed: a file that ends in {SUFFIX}")
    with progress("measuring this machine"):
        from tvm_fastconv.measure.machine_row import measure_machine
        from tvm_fastconv.targets import resolve_target
        from tvm_fastconv.topi.machines import machine_of

        resolved, measured = resolve_target("native"), measure_machine()
    if output is not None:
        write_machine(output, resolved, measured)
    table = machine_of(resolved)
    if json:
        print_json({"file": output, "table": asdict(table), "measured": asdict(measured)})
    else:
        _print_rows(table, measured, output)


def _print_rows(table: "Machine", measured: "Machine", output: str | None) -> None:
    rows = [
        (name, before, after if after != before else "")
        for (name, before), after in zip(asdict(table).items(), asdict(measured).values(), strict=True)
    ]
    print_table(("field", "table", "measured"), rows, title=f"{table.name}, one core")
    if output is not None:
        print_facts({"file": output})
