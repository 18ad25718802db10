import json
from pathlib import Path

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.errors import TargetError
from tvm_fastconv.machine_files import read_machine, target_and_machine, write_machine
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import machine_of

from ..close import assert_close

ZEN_4 = "x86_64-linux-gnu -mcpu=znver4 -mattr=-prefer-256-bit -num-cores=2"


@pytest.fixture
def zen_4() -> Machine:
    return machine_of(resolve_target(ZEN_4))


def test_a_file_stands_for_its_target_and_machine(tmp_path: Path, zen_4: Machine) -> None:
    path, row = tmp_path / "zen.json", Machine(**{**vars(zen_4), "name": "mine", "l2_bytes": 512 * 1024})
    write_machine(path, resolve_target(ZEN_4), row)
    assert read_machine(path) == (ZEN_4, row)
    for target in (path, str(path)):
        resolved, machine = target_and_machine(target)
        assert machine == row
        assert dict(resolved.export()) == dict(resolve_target(ZEN_4).export())
    assert target_and_machine(ZEN_4, path)[1] == target_and_machine(ZEN_4, row)[1] == row
    assert target_and_machine(path, zen_4)[1] == zen_4


def test_without_a_file_the_table_speaks(zen_4: Machine) -> None:
    assert target_and_machine(ZEN_4)[1] == zen_4


def test_a_machine_of_another_target_is_refused(tmp_path: Path, zen_4: Machine) -> None:
    with pytest.raises(TargetError, match=r"'zen4' is none of target .*haswell: lanes is 16, not 8"):
        target_and_machine("x86_64-linux-gnu -mcpu=haswell", zen_4)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "describes no machine"),
        ("[]", "holds no target and machine"),
        ('{"target": "native"}', "holds no target and machine"),
        ('{"target": 3, "machine": {}}', "holds no target and machine"),
        ('{"target": "native", "machine": {}}', "lanes and registers are missing"),
        ('{"target": "native", "machine": {"lanes": 16, "registers": 32, "colour": 1}}', "unknown fields colour"),
        ('{"target": "native", "machine": {"lanes": "16", "registers": 32}}', "lanes is '16'"),
        ("[" * 100_000, "describes no machine"),
    ],
)  # fmt: skip
def test_what_describes_no_machine_is_refused(text: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(text)
    with pytest.raises(TargetError, match=wrong):
        target_and_machine(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot read .*row\.json: No such file"):
        target_and_machine(tmp_path / "row.json")


def test_the_machine_decides_the_knobs(tmp_path: Path) -> None:
    """A strip of input stays in the cache of a processor."""
    torch.manual_seed(0)
    model, x = nn.Conv2d(64, 64, 1).eval(), torch.randn(1, 64, 28, 28)
    row = vars(machine_of(resolve_target(ZEN_4)))
    target, choices = "x86_64-linux-gnu -mcpu=znver4", {}
    for name, more in {"table": {}, "small cache": {"l2_bytes": 65536}}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"target": target, "machine": {**row, **more}}))
        (layer,) = fc.compile(model, x, target=str(path), verify=False).layers
        choices[name] = json.loads(layer.schedule)
    assert choices["small cache"]["strip"] < choices["table"]["strip"]


@pytest.mark.native
def test_what_a_machine_says_changes_no_result(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(8, 40, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 8, 12, 12)
    row = machine_of(resolve_target("native"))
    odd = Machine(**{**vars(row), "sums_in_flight": 1, "l2_bytes": 4096, "call_cycles": 1, "load_cost": 3.0})
    got = fc.compile(model, x, machine=odd)(x)
    assert_close(got, model(x), 2e-6)  # float32 sums of 72 terms in another order
