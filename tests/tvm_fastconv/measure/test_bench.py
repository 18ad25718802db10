from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tvm_fastconv import load
from tvm_fastconv.errors import InputError, ModelError
from tvm_fastconv.measure import rivals
from tvm_fastconv.measure.bench import bench, pytorch_module


class Product(nn.Module):
    """What the file of the fixture ``chain`` computes, times ``scale``."""

    def __init__(self, chain: SimpleNamespace, scale: float = 1.0) -> None:
        super().__init__()
        # x @ p = y determines p only together with p's own range, which is all that one input needs.
        self.weight = nn.Parameter(scale * torch.from_numpy(np.linalg.pinv(chain.x) @ chain.y))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_alone(chain: SimpleNamespace) -> None:
    (ours,) = bench(load(chain.path), repeats=3)
    assert (ours.engine, ours.status, ours.ratio) == ("fastconv", "ok", 1.0)
    assert ours.median_ms is not None
    assert ours.median_ms > 0


def test_rivals_are_checked_and_compared(chain: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rivals.RIVALS, "gone", ("no_such_package", rivals.RIVALS["torch"][1]))
    rows = bench(
        load(chain.path), against=["torch", "gone"], module=Product(chain), inputs=[chain.x], repeats=3
    )
    ours, torch_row, gone = rows
    assert [row.status for row in rows] == ["ok", "ok", "absent"]
    assert torch_row.ratio == pytest.approx(torch_row.median_ms / ours.median_ms)
    assert (gone.median_ms, gone.ratio) == (None, None)


def test_a_file_made_from_another_model_is_not_timed(chain: SimpleNamespace) -> None:
    ours, torch_row = bench(
        load(chain.path), against=["torch"], module=Product(chain, scale=1.01), inputs=[chain.x], repeats=3
    )
    assert (ours.status, ours.median_ms, torch_row.ratio) == ("wrong", None, None)
    assert torch_row.status == "ok"


def test_no_turns_are_refused(chain: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="repeats is 0; allowed: a whole number from 1 on"):
        bench(load(chain.path), repeats=0)


def test_rivals_need_the_module(chain: SimpleNamespace) -> None:
    with pytest.raises(ModelError, match=r"torch cannot run a compiled file.*module="):
        bench(load(chain.path), against=["torch"])


def test_the_module_may_be_an_exported_program(chain: SimpleNamespace, tmp_path: Path) -> None:
    module = Product(chain)
    x = torch.from_numpy(chain.x)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "model.pt2")
    exported = pytorch_module(str(tmp_path / "model.pt2")).eval()
    torch.testing.assert_close(exported(x), module(x))
    assert pytorch_module(module) is module


def test_an_onnx_file_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match="is no PyTorch model"):
        pytorch_module(tmp_path / "model.onnx")
