"""A compiled model as a drawing: the map of all passes, and which layer became what behind them.

In Graphviz's language, or Mermaid's.
"""

from collections.abc import Iterator, Mapping, Sequence

from .artifact.manifest import Manifest

LANGUAGES = ("dot", "mermaid")

Edge = tuple[str, str]


def draw(manifest: Manifest, phases: Mapping[str, Sequence[str]], language: str) -> str:
    """Return a program that draws the passes, then the calls of a model, with arrows to who reads whose result.

    Parameters
    ----------
    phases : mapping
        Name of each phase of the pipeline to the names of its passes, in order.
    language : str
        One of `LANGUAGES`.
    """
    boxes = {f"phase{i}": [f"{name}:", *passes] for i, (name, passes) in enumerate(phases.items())}
    edges = [(f"phase{i}", f"phase{i + 1}") for i in range(len(phases) - 1)]
    boxes |= dict(_boxes(manifest))
    edges += _edges(manifest)
    if language == "mermaid":
        lines = [f'    {name}["{_mermaid(text)}"]' for name, text in boxes.items()]
        return "\n".join(["flowchart TD", *lines, *(f"    {a} --> {b}" for a, b in edges)])
    lines = [f'  {name} [label="{_dot(text)}"];' for name, text in boxes.items()]
    lines += [f"  {a} -> {b};" for a, b in edges]
    return "\n".join(["digraph model {", "  node [shape=box];", *lines, "}"])


def _boxes(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of every box: inputs, calls, outputs."""
    yield "inputs", [str(spec) for spec in manifest.inputs]
    chains = _layers_of_calls(manifest)
    layers = {layer.name: layer for layer in manifest.layers}
    for place, call in enumerate(manifest.calls):
        shown = [layers[name] for name in chains[place]]
        lines = [f"{layer.name}: {layer.method} -> {layer.op}" for layer in shown]
        yield f"call{place}", lines or [call.function]
    yield "outputs", [str(spec) for spec in manifest.outputs]


def _layers_of_calls(manifest: Manifest) -> list[list[str]]:
    """The layers that each call computes: the one it is named after, and those in front that no call is named after."""
    named = {call.layer for call in manifest.calls}
    waiting: list[str] = []
    ends: dict[str | None, list[str]] = {}
    for layer in manifest.layers:
        waiting.append(layer.name)
        if layer.name in named:
            ends[layer.name] = waiting
            waiting = []
    return [ends.get(call.layer, []) if call.layer is not None else [] for call in manifest.calls]


def _edges(manifest: Manifest) -> Iterator[Edge]:
    for place, call in enumerate(manifest.calls):
        if call.inputs:
            yield "inputs", f"call{place}"
        yield from ((f"call{other}", f"call{place}") for other in call.reads)
        if call.is_output:
            yield f"call{place}", "outputs"


def _dot(lines: list[str]) -> str:
    return "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def _mermaid(lines: list[str]) -> str:
    return "<br>".join(line.replace('"', "#quot;") for line in lines)
