import json
from dataclasses import dataclass

import pytest

from tvm_fastconv.cli.output import print_facts, print_json, print_table, progress


@dataclass
class Point:
    x: int


def test_tables_show_brackets_and_align_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("layer", "ms"), [("layer[3]", 1.5), ("stem", None), ("x", 12)])
    lines = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["layer[3]", "1.5"],
        ["stem", "-"],
        ["x", "12"],
    ]
    assert lines[1][1].endswith("- ")


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"file": "a.so", "accuracy": 0.5})
    assert capsys.readouterr().out == "file      a.so\naccuracy  0.5\n"


def test_json_holds_dataclasses(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"points": [Point(1), Point(2)]})
    assert json.loads(capsys.readouterr().out) == {"points": [{"x": 1}, {"x": 2}]}


def test_progress_prints_each_stage_once_and_only_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("loading") as show:
        for epoch in range(3):
            show(f"training: epoch {epoch}")
        show("compiling")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "loading ...\ntraining ...\ncompiling ...\n"
