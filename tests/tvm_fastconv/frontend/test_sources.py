"""Models named by a string."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import ExportedProgram

from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model
from tvm_fastconv.frontend.sources import resolve

FACTORIES = """
import torch
from torch import nn
from sibling import WIDTH

def net():
    return nn.Conv2d(3, WIDTH, 3)

def program():
    return torch.export.export(net().eval(), (torch.randn(1, 3, 5, 5),))

def broken():
    raise ValueError("no such checkpoint")

def number():
    return 3

def leaves():
    raise SystemExit(3)

def odd():
    raise BaseException("neither an error nor an exit")

def stopped():
    raise KeyboardInterrupt

ready = nn.ReLU()
constant = 3

class Holder:
    @staticmethod
    def make():
        return net()
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sibling.py").write_text("WIDTH = 7\n")
    (tmp_path / "factories.py").write_text(FACTORIES)
    return tmp_path / "factories.py"


def test_a_module_and_a_program_are_taken_as_they_are() -> None:
    model = nn.ReLU()
    assert resolve(model) is model
    program = torch.export.export(model.eval(), (torch.ones(2),))
    assert resolve(program) is program


def test_a_pt2_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "relu.pt2"
    torch.export.save(torch.export.export(nn.ReLU().eval(), (torch.ones(2),)), path)
    assert isinstance(resolve(path), ExportedProgram)
    assert isinstance(resolve(str(path)), ExportedProgram)


def test_factories_of_a_file(factories: Path) -> None:
    assert resolve(f"{factories}:net").out_channels == 7
    assert resolve(f"{factories}:Holder.make").out_channels == 7
    assert isinstance(resolve(f"{factories}:ready"), nn.ReLU)
    assert isinstance(resolve(f"{factories}:program"), ExportedProgram)


def test_factories_of_a_module_in_the_current_folder(
    factories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.rename(factories.with_name("fastconv_test_factories.py"))
    monkeypatch.chdir(factories.parent)
    assert resolve("fastconv_test_factories:net").out_channels == 7
    assert isinstance(resolve("torch.nn:ReLU"), nn.ReLU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "has no 'missing'; it defines: Holder, broken, leaves, net, number, odd, program"),
        ("leaves", "raised SystemExit: 3"),
        ("odd", "raised BaseException: neither an error nor an exit"),
        ("broken", "raised ValueError: no such checkpoint"),
        ("number", "returned a int; allowed: nn.Module, ExportedProgram"),
        ("constant", "is a int, not a function"),
    ],
)
def test_a_factory_that_gives_no_model(factories: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        resolve(f"{factories}:{name}")


def test_a_factory_that_the_user_stops_is_stopped(factories: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        resolve(f"{factories}:stopped")


def test_a_file_that_exits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(1)\n")
    with pytest.raises(ModelError, match=r"leaves.py' cannot be imported: SystemExit: 1"):
        resolve(f"{tmp_path}/leaves.py:net")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("absent.pt2", "'absent.pt2' does not exist"),
        ("absent.onnx", "'absent.onnx' does not exist"),
        ("absent.py:net", "'absent.py' does not exist"),
        ("folder.pt2", "'folder.pt2' is a folder"),
        ("text.pt2", "'text.pt2' cannot be read as an exported program"),
        ("text.pth", "'text.pth' is a pickle, which holds no graph"),
        ("no_such_package.models:net", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("syntax.py:net", "'syntax.py' cannot be imported: SyntaxError"),
        ("resnet18", "'resnet18' names no model; allowed: an nn.Module"),
        ("", "'' names no model"),
        (":net", "':net' names no model"),
        (3, "the model is <class 'int'>; allowed:"),
        (nn.ReLU, "the model is the class ReLU: create an instance"),
    ],
)
def test_what_is_no_model_is_refused(
    model: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.pt2").mkdir()
    Path("text.pt2").write_text("hello")
    Path("syntax.py").write_text("def :")
    with pytest.raises(ModelError, match=re.escape(message)):
        resolve(model)


def test_what_pytorch_raises_about_an_impossible_program_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "relu.pt2"
    torch.export.save(torch.export.export(nn.ReLU().eval(), (torch.ones(2),)), path)

    def fail(*arguments: object) -> None:
        raise KeyError("p_weight\nTraceback")

    monkeypatch.setattr("tvm_fastconv.frontend.torch_program.import_exported", fail)
    with pytest.raises(ModelError, match=r"^the model cannot be imported: KeyError: ") as raised:
        import_model(path)
    assert "\n" not in str(raised.value)
