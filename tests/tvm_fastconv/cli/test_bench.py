import json
from collections.abc import Callable
from pathlib import Path

from .conftest import NETWORK


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


def test_other_answers_are_told_by_the_exit_code(fastconv: Callable, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        f"{NETWORK}\ndef doubled():\n    return nn.Sequential(small(), nn.Linear(10, 10)).eval()\n"
    )
    done = fastconv("bench", model, "--against", "torch", "--source", f"{other}:doubled", "--repeats", 3)
    assert done.code == 1
    assert "wrong" in done.out
