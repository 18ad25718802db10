import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv import cli

from . import commands
from .commands import Command, Commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """``run(verb, *words)``: what is said of a command line that ``verb`` runs in place of ``fastconv``."""
    monkeypatch.setattr(commands, "_base", lambda: tmp_path)

    def run_in_place(verb: Callable[[], object], *words: str) -> str | None:
        monkeypatch.setattr(cli, "main", lambda words: verb())
        return Commands().run(Command(words))

    return run_in_place


def leave(code: int, out: str = "", err: str = "", file: str | None = None) -> Callable[[], None]:
    def verb() -> None:
        print(out, end="")
        print(err, end="", file=sys.stderr)
        if file is not None:
            Path(file).write_text("half")
        sys.exit(code)

    return verb


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (leave(0, "result\n"), ["run"]),
        (leave(2, err="compiling ...\nerror: no\n"), ["run"]),
        (leave(0, file="out.so"), ["compile", "-o", "out.so"]),
        (leave(2, err="error: no\n", file="ir"), ["compile", "--dump-ir", "ir"]),
        (leave(1, "torch  wrong: 0.3 off\n"), ["bench"]),
    ],
)
def test_what_is_right_is_clean(verb: Callable, words: list[str], run: Callable) -> None:
    assert run(verb, *words) is None


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [
        (leave(1, err="error: no\n"), "exit code 1"),
        (leave(1, "torch  wrong: 0.3 off\n"), "exit code 1"),
        (lambda: None, "exit code no exit"),
        (leave(2), "0 messages"),
        (leave(2, err="error: no\nerror: no\n"), "2 messages"),
        (leave(2, err="Traceback (most recent call last)\nerror: no\n"), "more than a message"),
        (leave(2, "result\n", "error: no\n"), "a message, and a result"),
        (leave(0, err="error: no\n"), "an error, and exit code 0"),
        (leave(2, err="error: no\n", file="out.so"), r"exit code 2 and \['out.so'\] changed"),
        (leave(0, file="other.so"), r"exit code 0 and \['other.so'\] changed"),
        (leave(0), "nothing was written"),
    ],
)
def test_what_is_wrong_is_said(verb: Callable, wrong: str, run: Callable) -> None:
    said = run(verb, "compile", "-o", "out.so")
    assert said is not None
    assert re.search(wrong, said)


def test_what_is_raised_is_raised(run: Callable) -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0, "run")


def test_lines_name_every_verb_and_the_files_made_for_them() -> None:
    cases = [Commands().case(random.Random(index)) for index in range(400)]
    assert {case.words[0] for case in cases} >= set(cli.VERBS)
    assert any(name in case.words for case in cases for name, _ in case.files)


def test_a_failing_line_is_a_program() -> None:
    case = Command(
        ("run", "damaged.so"), (("x.npy", b"\x93"), ("damaged.so", commands.Damaged("model.so", 0.5, 0.1, 4)))
    )
    program = Commands().code(case)
    compile(program, "program", "exec")
    assert "cli.main(['run', 'damaged.so'])" in program
    assert all(len(smaller.words) + len(smaller.files) == 3 for smaller in Commands().smaller(case))
