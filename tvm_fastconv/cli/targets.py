"""``fastconv targets``: what may be compiled for."""

from typing import Annotated

import typer

from .arguments import Json
from .output import print_facts, print_json


def targets_verb(
    target: Annotated[str, typer.Argument(help="The target to explain.")] = "native",
    json: Json = False,
) -> None:
    """Explain a target, and list what else may be written in its place."""
    from tvm_fastconv.targets import (
        architecture,
        cpu_features,
        known_cpus,
        known_tags,
        resolve_target,
    )
    from tvm_fastconv.topi.machine import Machine

    resolved = resolve_target(target)
    triple, machine = str(resolved.attrs["mtriple"]), Machine.of(resolved)
    facts: dict[str, object] = {
        "target": target,
        "triple": triple,
        "mcpu": str(resolved.attrs.get("mcpu", "")),
        "mattr": [str(item) for item in resolved.attrs.get("mattr", ())],
        "cores": int(resolved.attrs["num-cores"]),
        "float32_lanes": machine.lanes,
        "vector_registers": machine.registers,
        "cpu_features": list(cpu_features(resolved)),
        f"mcpu_for_{architecture(resolved)}": list(known_cpus(triple)),
        "tags": list(known_tags()),
    }
    if json:
        print_json(facts)
    else:
        print_facts(
            {name: " ".join(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
        )
