import json
from collections.abc import Callable
from pathlib import Path


def test_alone(fastconv: Callable, model: Path) -> None:
    done = fastconv("bench", model, "--repeats", 3, "--json")
    (ours,) = json.loads(done.out)["engines"]
    assert (ours["engine"], ours["status"], ours["ratio"]) == ("fastconv", "ok", 1)
    assert ours["median_ms"] > 0


def test_against_pytorch(fastconv: Callable, model: Path, network: Path) -> None:
    done = fastconv("bench", model, "--against", "torch", "--source", f"{network}:small", "--repeats", 3)
    assert done.code == 0
    assert "torch" in done.out
    assert "fastconv" in done.out


def test_rivals_need_the_source(fastconv: Callable, model: Path) -> None:
    done = fastconv("bench", model, "--against", "torch")
    assert (done.code, done.out) == (2, "")
    assert "--source" in done.err


def test_unknown_rivals(fastconv: Callable, model: Path, network: Path) -> None:
    done = fastconv("bench", model, "--against", "abacus", "--source", f"{network}:small")
    assert (done.code, done.out) == (2, "")
    assert "unknown engine 'abacus': known are torch" in done.err
