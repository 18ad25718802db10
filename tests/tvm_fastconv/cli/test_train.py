"""``fastconv train`` and ``fastconv export``, from names to files."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tvm_fastconv.cli import app
from tvm_fastconv.errors import TrainError

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_dense_then_compressed_then_exported(tmp_path: Path) -> None:
    dense, small = str(tmp_path / "dense"), str(tmp_path / "small")
    common = ("--epochs", "2", "--batch-size", "64")
    table = _run("train", "digits", "digits_net", "-o", dense, "--option", "width=8", *common)
    assert table.count("│ ") >= 2
    methods = tmp_path / "methods.toml"
    methods.write_text('"block[12].conv" = { method = "cp", rank = 4 }\n"block3.conv" = "fixed"\n')
    _run(
        "train", "digits", "-", "-o", small, "--compress-from", f"{dense}/best.ckpt", "--methods", str(methods),
        "--teacher", f"{dense}/best.ckpt", *common,
    )  # fmt: skip
    assert "model.pt2" in _run("export", f"{small}/best.ckpt", "-o", str(tmp_path / "model.pt2"))
    assert (tmp_path / "model.pt2").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "cp", "--methods", "x.toml"), "both --method and --methods are given"),
        (("--option", "width"), "'width' is no option; write name=value"),
        (("--compress-from", "x.ckpt"), "and no methods"),
        (("--compress-from", "x.ckpt", "--method", "cp"), "x.ckpt cannot be read"),
        (("--batch-size", "5000"), "digits has 1347 images to train on"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        _run("train", "digits", "digits_net", "-o", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()
