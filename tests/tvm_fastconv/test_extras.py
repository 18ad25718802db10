"""Packages that are not there are named with the extra that brings them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.extras import EXTRAS, missing_package, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

WITHOUT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
"""


def _run(code: str, *gone: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(gone=set(gone)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_every_package_is_of_the_extra_that_is_named() -> None:
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in PROJECT["optional-dependencies"][extra]), package


def test_a_plain_installation_brings_no_package_of_an_extra() -> None:
    names = {line.split(";")[0].split(">")[0].split("=")[0].strip() for line in PROJECT["dependencies"]}
    assert names == {"apache-tvm", "apache-tvm-ffi", "numpy", "rich", "tomli", "typer"}


def test_packages_of_others_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_package(ModuleNotFoundError(name="somebodys")) is None
    assert missing_package(ModuleNotFoundError()) is None
    assert missing_package(ModuleNotFoundError(name="torch.gone")) is None, "it is damaged, not missing"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "tvm-fastconv[tune]" in str(missing_package(ModuleNotFoundError(name="xgboost.core")))


def test_what_is_required_is_there_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require("torch", "xgboost")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        FastconvError, match=r"xgboost is not installed; run: pip install 'tvm-fastconv\[tune\]'"
    ):
        require("xgboost")


def test_without_pytorch_compile_says_so_and_load_works(chain) -> None:
    asked = _run("import tvm_fastconv as fc; fc.compile", "torch")
    assert asked.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: tvm_fastconv.compile: torch is not installed; run: pip install 'tvm-fastconv[compile]'"
    )
    loaded = _run(f"import tvm_fastconv as fc; print(fc.load({str(chain.path)!r}).layers)", *EXTRAS)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("verb", ["run", "report"])
def test_the_command_line_runs_files_without_any_extra(chain, verb: str) -> None:
    arguments = [verb, str(chain.path), *(["--check"] if verb == "run" else [])]
    done = _run(f"from tvm_fastconv.cli import main; main({arguments!r})", *EXTRAS)
    assert done.returncode == 0, done.stderr


def test_the_command_line_names_the_extra() -> None:
    done = _run("from tvm_fastconv.cli import main; main(['compile', 'm.py:net', '-o', 'm.so'])", "torch")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: torch is not installed; run: pip install 'tvm-fastconv[compile]'"
    )
