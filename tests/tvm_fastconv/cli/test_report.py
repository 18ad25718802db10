import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv.artifact.artifact import read_artifact


def test_the_table_names_every_layer(fastconv: Callable, model: Path) -> None:
    done = fastconv("report", model)
    assert done.code == 0
    for layer in read_artifact(model).manifest.layers:
        assert f" {layer.name} " in done.out
        assert str(layer.dense_macs) in done.out
    assert "verified against PyTorch" in done.out


def test_json_is_the_manifest(fastconv: Callable, model: Path) -> None:
    facts = json.loads(fastconv("report", model, "--json").out)
    assert facts["layers"][0]["method"] == "dense"
    assert "profile" not in facts


def test_profile_and_trace(fastconv: Callable, model: Path, tmp_path: Path) -> None:
    done = fastconv("report", model, "--trace", tmp_path / "trace.json", "--json")
    profile = json.loads(done.out)["profile"]
    assert profile["total_ms"] > 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == [
        call["layer"] or call["function"] for call in profile["calls"]
    ]
    assert "ms" in fastconv("report", model, "--profile").out


def test_a_trace_that_cannot_be_written(fastconv: Callable, model: Path, tmp_path: Path) -> None:
    done = fastconv("report", model, "--trace", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "is a folder" in done.err


@pytest.mark.parametrize(("option", "first"), [("--dot", "digraph model {"), ("--mermaid", "flowchart TD")])
def test_a_graph_instead(option: str, first: str, fastconv: Callable, model: Path) -> None:
    done = fastconv("report", model, option)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == first
    assert "DispatchDense" in done.out
    assert "0: dense" in done.out
