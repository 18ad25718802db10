"""``fastconv report``: what a compiled file says about itself, and what each layer costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import Compiled, Json
from .output import print_facts, print_json, print_line, print_table, progress

if TYPE_CHECKING:
    from tvm_fastconv.artifact.manifest import Manifest
    from tvm_fastconv.measure.profile import Profile
    from tvm_fastconv.report import LayerReport


def report_verb(
    model: Compiled,
    profile: Annotated[
        bool, typer.Option("--profile", help="Run it and add milliseconds per layer.")
    ] = False,
    trace: Annotated[
        str | None, typer.Option(help="Run it and write every call here, in Chrome's trace format.")
    ] = None,
    dot: Annotated[
        bool, typer.Option("--dot", help="Print all passes and its calls as a graph instead, for Graphviz.")
    ] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="The same for Mermaid.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Worker threads of the profile.")] = 1,
    json: Json = False,
) -> None:
    """Show a compiled model's layers; without --profile and --trace nothing of it is executed."""
    from tvm_fastconv.artifact.artifact import check_output_path, read_artifact

    manifest = read_artifact(model).manifest
    if dot or mermaid:
        _draw(manifest, "dot" if dot else "mermaid")
        return
    if trace is not None:
        check_output_path(trace)
    measured = _profile(model, threads, trace) if profile or trace else None
    if json:
        print_json(manifest.to_dict() | ({"profile": measured} if measured else {}))
        return
    times = measured.layers if measured else {}
    print_facts(
        {
            "file": f"{model}, {manifest.file_size} bytes, {manifest.weight_bytes} of them weights",
            "target": manifest.target,
            "versions": f"tvm-fastconv {manifest.package_version}, TVM {manifest.tvm_version}",
            "inputs": "; ".join(map(str, manifest.inputs)),
            "outputs": "; ".join(map(str, manifest.outputs)),
            "calls": _calls(manifest),
            "verify": manifest.verify,
        }
        | ({"profile": f"{measured.total_ms:.3f} ms per call, {threads} thread(s)"} if measured else {})
    )
    columns = [
        "layer",
        "method",
        "runs",
        "input",
        "output",
        "dense MACs",
        "operations",
        "weights",
        "schedule",
        "chosen by",
    ]
    rows = [
        [
            layer.name,
            layer.method,
            layer.op,
            _shape(layer.input_shape),
            _shape(layer.output_shape),
            layer.dense_macs,
            layer.operations,
            layer.weight_bytes,
            layer.schedule,
            _chosen_by(layer),
            *([f"{times[layer.name]:.4f}" if layer.name in times else "-"] if measured else []),
        ]
        for layer in manifest.layers
    ]
    rows += [
        [name, *["-"] * 9, f"{ms:.4f}"] for name, ms in times.items() if name not in {row[0] for row in rows}
    ]
    print_table(columns + (["ms"] if measured else []), rows)
    for layer in manifest.layers:
        if layer.reason.startswith(("approximated", "left as it is")):
            print_line(f"{layer.name}: {layer.reason}")
    for notice in manifest.notices:
        print_line(f"note: {notice}")


def _calls(manifest: "Manifest") -> str:
    if manifest.virtual_machine:
        return f"by TVM's virtual machine, since {manifest.virtual_machine}"
    how = "as one CUDA graph" if manifest.gpu_arches else "by one entry function"
    return f"{how}, in {manifest.workspace_bytes} bytes of workspace"


def _chosen_by(layer: "LayerReport") -> str:
    if layer.gain is None:
        return layer.source
    return "record: the default" if layer.gain == 1 else f"record: {layer.gain:.2f} times as fast"


def _draw(manifest: "Manifest", language: str) -> None:
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.relay_passes import pipeline
    from tvm_fastconv.report_graph import draw

    phases = pipeline.phases(*target_and_machine("native"))
    names = {name: [str(each.info.name) for each in passes] for name, passes in phases.items()}
    for line in draw(manifest, names, language).splitlines():
        print_line(line)


def _profile(path: str, threads: int, trace: str | None) -> "Profile":
    from tvm_fastconv.runtime.array_files import random_inputs
    from tvm_fastconv.runtime.compiled_model import load

    loaded = load(path, threads=threads)
    with progress(f"profiling {path}"):
        measured = loaded.profile(*random_inputs(loaded.manifest.inputs))
    if trace is not None:
        measured.write_trace(trace)
    return measured


def _shape(shape: tuple[int | str, ...]) -> str:
    return "x".join(map(str, shape))
