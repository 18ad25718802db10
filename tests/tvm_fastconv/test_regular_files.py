"""Readers look at what a name stands for before they open it. Opening a FIFO would wait for a writer for ever."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv.artifact.artifact import read_artifact
from tvm_fastconv.cli.method_files import read_methods
from tvm_fastconv.errors import FastconvError
from tvm_fastconv.frontend.sources import resolve
from tvm_fastconv.regular_files import open_regular
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.runtime.array_files import read_inputs

READERS: dict[str, Callable[[Path], object]] = {
    "m.so": read_artifact,
    "x.npy": lambda path: read_inputs([path], [TensorSpec(name="x", shape=(1,), dtype="float32")]),
    "m.pt2": resolve,
    "m.onnx": resolve,
    "net.py": lambda path: resolve(f"{path}:build"),
    "methods.toml": read_methods,
}


def test_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"data"


@pytest.mark.parametrize(("path", "kind"), [("/dev/null", "a device"), ("/", "a folder")])
def test_what_is_no_file_is_named(path: str, kind: str) -> None:
    with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
        open_regular(path)


@pytest.mark.parametrize("name", READERS)
def test_no_reader_opens_a_fifo(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    _refuse_to_open(path, monkeypatch)
    with pytest.raises(FastconvError, match="FIFO"):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_no_reader_opens_a_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.symlink_to("/dev/zero")
    _refuse_to_open(path, monkeypatch)
    with pytest.raises(FastconvError, match="device"):
        READERS[name](path)


def _refuse_to_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail instead of waiting for a writer."""
    real = {"open": open, "os.open": os.open}

    def guard(function: str) -> Callable[..., object]:
        def opened(target: object, *arguments: object, **named: object) -> object:
            assert str(target) != str(path), "opened"
            return real[function](target, *arguments, **named)

        return opened

    monkeypatch.setattr("builtins.open", guard("open"))
    monkeypatch.setattr("os.open", guard("os.open"))
