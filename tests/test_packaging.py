import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tvm_fastconv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]


def _modules() -> dict[str, str]:
    """Module path inside the wheel (``tvm_fastconv/topi/conv2d.py``) of every source file."""
    return {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}": path.as_posix()
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }


def _python(code: str, cwd: Path, path: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools packs whatever an earlier build left in ``build/``."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    subprocess.run(command, cwd=source, check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True)
    return target


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = {Path(module).parent.as_posix().replace("/", ".") for module in _modules()}
    assert sorted(folders) == sorted(SETUPTOOLS["packages"]), (
        "put new folders into packages in pyproject.toml"
    )
    bare = [name for name in folders if f"{name.replace('.', '/')}/__init__.py" not in _modules()]
    assert not bare, "each folder needs an __init__.py"


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.endswith(".py")} == set(_modules())
    assert {name.split("/")[0] for name in names} == {
        "tvm_fastconv",
        f"tvm_fastconv-{tvm_fastconv.__version__}.dist-info",
    }
    assert "tvm_fastconv/py.typed" in names


def test_every_package_imports_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    code = f"""
import importlib
for name in {SETUPTOOLS["packages"]!r}:
    print(importlib.import_module(name).__file__)
"""
    files = _python(code, cwd=tmp_path, path=installed).split()
    assert [Path(file).parent for file in files] == [
        installed / name.replace(".", "/") for name in SETUPTOOLS["packages"]
    ]


@pytest.mark.parametrize("from_wheel", [False, True], ids=["editable", "wheel"])
def test_the_root_as_current_folder_gives_the_whole_package(from_wheel: bool, installed: Path) -> None:
    code = """
import importlib, sys
for name in ("autotune", "relay_passes", "topi", "train"):
    print(importlib.import_module("tvm_fastconv." + name).__file__)
    assert name not in sys.modules
"""
    files = _python(code, cwd=ROOT, path=installed if from_wheel else None).split()
    assert files == [
        str(ROOT / name / "__init__.py") for name in ("autotune", "relay_passes", "topi", "train")
    ]


def test_no_generic_name_is_importable_elsewhere(tmp_path: Path) -> None:
    code = f"""
import importlib.util
for name in ("autotune", "relay_passes", "topi", "train", "tests", "benchmarks"):
    spec = importlib.util.find_spec(name)
    assert spec is None or not str(spec.origin).startswith({str(ROOT)!r}), spec
"""
    _python(code, cwd=tmp_path)


def test_an_installed_package_does_not_look_beside_itself(installed: Path, tmp_path: Path) -> None:
    paths = _python(
        "import tvm_fastconv; print(*tvm_fastconv.__path__)", cwd=tmp_path, path=installed
    ).split()
    assert paths == [str(installed / "tvm_fastconv")]


def test_importing_touches_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
import tvm_fastconv
print(*sorted(set(sys.modules) - before - sys.stdlib_module_names))
"""
    names = _python(code, cwd=tmp_path).split()
    foreign = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"tvm_fastconv"}
    assert {"tvm_fastconv", "tvm_fastconv.errors"} == {
        name for name in names if name.startswith("tvm_fastconv")
    }


def test_every_public_name_exists() -> None:
    for name in tvm_fastconv.__all__:
        assert getattr(tvm_fastconv, name) is not None
    assert set(tvm_fastconv.__all__) <= set(dir(tvm_fastconv))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tvm_fastconv.nonsense  # noqa: B018


def test_train_imports_without_tvm(tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(("tvm", "tvm_ffi")))
import tvm_fastconv.train as train
for module in pkgutil.walk_packages(train.__path__, train.__name__ + "."):
    importlib.import_module(module.name)
"""
    _python(code, cwd=tmp_path)
