import json
from dataclasses import dataclass

import pytest

from tvm_fastconv.cli.output import (
    print_error,
    print_facts,
    print_json,
    print_line,
    print_table,
    print_warning,
    printable,
    progress,
)


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


EVIL = "a\x1b]0;owned\x07\r\x9b31m\u202e\u2028\udc80[red]\\[b]"
SPELT = r"a\x1b]0;owned\x07\r\x9b31m\u202e\u2028\udc80[red]\[b]"


def test_what_steers_a_terminal_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(EVIL) == SPELT
    assert printable("größe ✓ 中\nnext") == "größe ✓ 中\nnext"
    print_table(("layer",), [(EVIL + "\n",)])
    print_facts({EVIL: EVIL + "\nfile  forged.so"})
    print_line(EVIL + "\nforged")
    shown = capsys.readouterr().out
    assert shown.splitlines()[3].startswith(f"│ {SPELT}\\n ")
    assert shown.splitlines()[5:] == [rf"{SPELT}  {SPELT}\nfile  forged.so", rf"{SPELT}\nforged"]


def test_errors_warnings_and_progress_are_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(f"error: {EVIL}\n  {EVIL}")
    print_warning(EVIL, UserWarning)
    with progress(EVIL):
        pass
    assert capsys.readouterr().err.splitlines() == [
        f"error: {SPELT}",
        f"  {SPELT}",
        f"note: {SPELT}",
        f"{SPELT.split(':')[0]} ...",
    ]
