"""A small compiled model, and the command line in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tvm_fastconv import cli

NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)).eval()
"""


class Done(NamedTuple):
    """What one run of the command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def fastconv(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        return Done(int(stop.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.py"
    path.write_text(NETWORK)
    return path


@pytest.fixture(scope="session")
def model(network: Path) -> Path:
    """The network for 8×8 images, compiled."""
    path = network.with_name("model.so")
    with pytest.raises(SystemExit) as stop:
        cli.main(["compile", f"{network}:small", "--shape", "1x1x8x8", "-o", str(path)])
    assert not stop.value.code
    return path
