from dataclasses import replace

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.artifact.manifest import Manifest
from tvm_fastconv.report_graph import draw

PHASES = {"dispatch": ["First", "Second"], "fuse": ["Third"]}


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return torch.softmax(x + self.second(x), 1)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    torch.manual_seed(0)
    model = _Residual().eval()
    return fc.compile(model, torch.randn(1, 4, 8, 8), target="x86_64-linux-gnu", verify=False).manifest


def test_every_layer_is_in_a_box_and_reads_what_it_reads(manifest: Manifest) -> None:
    lines = draw(manifest, PHASES, "dot").splitlines()
    assert (lines[0], lines[-1]) == ("digraph model {", "}")
    assert '  phase0 [label="dispatch:\\nFirst\\nSecond"];' in lines
    assert "  phase0 -> phase1;" in lines
    boxes = {line.split()[0]: line for line in lines if "[label=" in line}
    first = next(name for name, line in boxes.items() if "first: dense -> conv2d" in line)
    second = next(name for name, line in boxes.items() if "second: dense -> conv2d" in line)
    assert f"  {first} -> {second};" in lines
    assert f"  inputs -> {first};" in lines
    assert sum(line.endswith("-> outputs;") for line in lines) == 1
    assert set(boxes) == {
        "phase0",
        "phase1",
        "inputs",
        "outputs",
        *(f"call{i}" for i in range(len(manifest.calls))),
    }


def test_mermaid_says_the_same(manifest: Manifest) -> None:
    dot, mermaid = (draw(manifest, PHASES, language) for language in ("dot", "mermaid"))
    assert mermaid.startswith("flowchart TD\n")
    arrows = {
        tuple(line.strip(" ;").split(" -> "))
        for line in dot.splitlines()
        if line.endswith(";") and " -> " in line
    }
    assert {tuple(line.strip().split(" --> ")) for line in mermaid.splitlines() if "-->" in line} == {
        arrow for arrow in arrows if "label" not in arrow[0]
    }


def test_names_cannot_break_out_of_their_box(manifest: Manifest) -> None:
    layers = tuple(replace(layer, method='a"] b\\') for layer in manifest.layers)
    odd = replace(manifest, layers=layers)
    assert 'a\\"] b\\\\' in draw(odd, {}, "dot")
    assert 'a"]' not in draw(odd, {}, "mermaid")


def test_the_layers_of_a_chain_share_a_box(manifest: Manifest) -> None:
    calls = tuple(call for call in manifest.calls if call.layer != "first")
    assert any(
        "first" in line and "second" in line
        for line in draw(
            replace(manifest, calls=tuple(replace(call, reads=()) for call in calls)), {}, "dot"
        ).splitlines()
    )


class _Forked(nn.Module):
    """An input that is read twice, and a result that is read again; one result is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.softmax(self.first(x), 1)
        return y, torch.softmax(self.second(y * x), 1).flatten(1)


def test_inputs_and_outputs_have_all_their_arrows() -> None:
    forked = fc.compile(
        _Forked().eval(), torch.randn(1, 4, 8, 8), target="x86_64-linux-gnu", verify=False
    ).manifest
    lines = [line.strip() for line in draw(forked, {}, "dot").splitlines()]
    assert sum(line.startswith("inputs -> ") for line in lines) == 2
    assert sum(line.endswith("-> outputs;") for line in lines) == 2
