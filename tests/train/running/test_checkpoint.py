"""Checkpoints: whole or not there, plain data, and refused with a reason where they are not ours."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import tvm_fastconv as fc
from tvm_fastconv.errors import TrainError
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.running import (
    Checkpoint,
    Settings,
    export_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tvm_fastconv.train.structure import structure_of

NETWORK = {"name": "digits_net", "classes": 10, "channels": 1, "size": 8, "width": 8}


def _checkpoint(methods: str | None = "cp", **changes: Any) -> Checkpoint:
    model = make_model(**NETWORK, methods=methods)
    fields = {
        "data": "digits", "network": NETWORK, "structure": structure_of(model), "state": model.state_dict(),
        "settings": Settings().as_dict(),
    }  # fmt: skip
    return Checkpoint(**fields | changes)


@pytest.mark.parametrize("methods", [None, "cp", "tucker", "binary", "lcnn-fast"])
def test_the_network_comes_back(tmp_path: Path, methods: str | None) -> None:
    checkpoint = _checkpoint(methods)
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(load_checkpoint(tmp_path / "a.ckpt").model()(images), checkpoint.model()(images))


class _Code:
    def __reduce__(self) -> Any:
        return print, ("run",)


def _foreign(path: Path, kind: str) -> None:
    if kind == "cut":
        save_checkpoint(_checkpoint(), path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "code":
        path.write_bytes(pickle.dumps(_Code()))
    elif kind == "code in a checkpoint":
        save_checkpoint(_checkpoint(training={"optimizer": _Code()}), path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "state":
        torch.save(make_model(**NETWORK).state_dict(), path)
    elif kind == "text":
        path.write_text("nothing")
    elif kind == "weights":
        save_checkpoint(_checkpoint(), path)
        weights = load_checkpoint(path).state["classifier.weight"].numpy().tobytes()
        path.write_bytes(path.read_bytes().replace(weights, bytes(byte ^ 1 for byte in weights)))


@pytest.mark.parametrize("kind", ["cut", "code", "code in a checkpoint", "empty", "state", "text", "weights"])
def test_what_is_no_checkpoint_is_said(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    _foreign(tmp_path / "a.ckpt", kind)
    with pytest.raises(TrainError, match=r"a\.ckpt is no checkpoint of fastconv train") as refused:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "weights_only" not in str(refused.value)
    assert "run" not in capsys.readouterr().out


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"b\.ckpt cannot be read: No such file"):
        load_checkpoint(tmp_path / "b.ckpt")


def test_another_state_or_no_network_is_said() -> None:
    with pytest.raises(TrainError, match="the checkpoint is of another network"):
        _checkpoint(state=make_model(**NETWORK).state_dict()).model()
    with pytest.raises(TrainError, match="the checkpoint names no network"):
        _checkpoint(network={"width": 3}).model()
    with pytest.raises(TrainError, match="of a network that its maker built"):
        _checkpoint(network={}).model()


def test_compiled_it_is_what_was_trained(tmp_path: Path) -> None:
    checkpoint = _checkpoint("tucker")
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    export_checkpoint(tmp_path / "a.ckpt", tmp_path / "a.pt2")
    images = torch.rand(1, 1, 8, 8)
    want = checkpoint.model()(images).detach()
    program = torch.export.load(tmp_path / "a.pt2")
    torch.testing.assert_close(program.module()(images), want)
    assert (tmp_path / "a.pt2").stat().st_size < (tmp_path / "a.ckpt").stat().st_size * 4
    compiled = fc.compile(str(tmp_path / "a.ckpt"))
    # 2e-5: what every compiled layer keeps to
    assert (torch.from_numpy(compiled(images.numpy())) - want).abs().max() <= 2e-5 * want.abs().max()
