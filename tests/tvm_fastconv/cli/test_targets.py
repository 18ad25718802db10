import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv.measure import machine_row


def test_native(fastconv: Callable) -> None:
    facts = json.loads(fastconv("targets", "--json").out)
    assert facts["float32_lanes"] in (4, 8, 16)
    assert "raspberry-pi/4b-aarch64" in facts["tags"]


def test_a_named_target(fastconv: Callable) -> None:
    done = fastconv("targets", "x86_64-linux-gnu -mcpu=haswell")
    assert done.code == 0
    assert "avx2" in done.out
    assert "avx512f" not in done.out.split("mcpu_for")[0]


def test_an_unknown_one(fastconv: Callable) -> None:
    done = fastconv("targets", "vax")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: unknown target 'vax'; allowed: ")


def test_a_kind_of_target_that_we_know_nothing_of(fastconv: Callable) -> None:
    done = fastconv("targets", "qcom/hexagon-v68")
    assert (done.code, done.out) == (2, "")
    assert "error: unknown target 'qcom/hexagon-v68'" in done.err


def test_this_machine_is_measured_into_a_file_that_compiles(
    fastconv: Callable, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_row, "REPEATS", 1)
    row = tmp_path / "row.json"
    done = fastconv("targets", "--measure", "-o", row, "--json")
    assert done.code == 0
    assert json.loads(done.out)["measured"] == json.loads(row.read_text())["machine"]
    assert "-measured" in fastconv("targets", row).out
    compiled = ["compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "model.so"]
    assert fastconv(*compiled, "--target", row).code == 0
    assert fastconv(*compiled, "--machine", row).code == 0


def test_fields_are_shown_beside_the_table(fastconv: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_row, "REPEATS", 1)
    shown = fastconv("targets", "--measure").out
    assert "fma_per_cycle" in shown
    assert "memory_bandwidth" in shown


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["x86_64-linux-gnu", "--measure"], "only this machine can be measured, not 'x86_64-linux-gnu'"),
        (["-o", "row.json"], "-o is where --measure writes"),
        (["--measure", "-o", "row.toml"], "cannot write a machine to row.toml; allowed: a file that ends in .json"),
        (["--measure", "-o", "missing/row.json"], "cannot write missing/row.json: No such file or directory"),
        (["missing.json"], "cannot read missing.json: No such file or directory"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments: list[str], wrong: str, fastconv: Callable) -> None:
    done = fastconv("targets", *arguments)
    assert (done.code, done.out) == (2, "")
    assert wrong in done.err


def test_a_gpu_is_explained(fastconv: Callable) -> None:
    facts = json.loads(fastconv("targets", "cuda -arch=sm_86", "--json").out)
    assert facts["machine_code"] == ["sm_86"]
    assert facts["machine"] == "rtx3090"
    assert "sm_86" in fastconv("targets", "cuda -arch=sm_86").out
