import io
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest

from tvm_fastconv import cli
from tvm_fastconv.errors import ArtifactError, FastconvError, InputError, MethodError, ModelError, TargetError


@pytest.mark.parametrize(
    "error", [FastconvError, ModelError, TargetError, MethodError, ArtifactError, InputError]
)
def test_an_error_of_the_user_is_one_message_and_exit_code_2(
    error: type[FastconvError], fastconv: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise error("layer1.conv: no such thing; allowed: things")

    monkeypatch.setattr(cli, "app", fail)
    done = fastconv("anything")
    assert done == (2, "", "error: layer1.conv: no such thing; allowed: things\n")


def test_an_error_of_ours_keeps_its_traceback(fastconv: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["anything"])


def test_warnings_are_one_line_on_stderr(fastconv: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*arguments: object, **named: object) -> None:
        warnings.warn("cast to float32", stacklevel=1)
        sys.exit(0)

    monkeypatch.setattr(cli, "app", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert fastconv("anything") == (0, "", "note: cast to float32\n")


def test_names_that_are_no_text_are_printed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    monkeypatch.setattr(cli, "app", lambda *arguments, **named: print("file  \udcff.so", flush=True))
    cli.main(["anything"])
    assert raw.getvalue() == b"file  \\udcff.so\n"


@pytest.mark.parametrize("arguments", [["no-such-verb"], ["compile"], ["report", "a.so", "--nonsense"]])
def test_usage_errors_exit_with_2_and_print_no_result(arguments: list[str], fastconv: Callable) -> None:
    done = fastconv(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_explains_itself(verb: str, fastconv: Callable) -> None:
    done = fastconv(verb, "--help")
    assert done.code == 0
    assert "Usage: fastconv" in done.out


def test_the_module_runs_as_a_program_without_importing_a_compiler() -> None:
    code = "import sys; from tvm_fastconv import cli; print(*({'tvm', 'torch', 'numpy'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tvm_fastconv.cli", "report", "none.so"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot open")
