import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.errors import ModelError
from tvm_fastconv.tvm_log import quiet_tvm


def leave_unfinished() -> None:
    """Make TVM log a warning."""
    builder = relax.BlockBuilder()
    builder._begin_binding_block()


def test_tvm_is_quiet_in_the_block_alone(capfd: pytest.CaptureFixture) -> None:
    with quiet_tvm():
        leave_unfinished()
        with quiet_tvm():
            leave_unfinished()
        leave_unfinished()
        print("ours", file=sys.stderr)
    assert capfd.readouterr() == ("", "ours\n")
    leave_unfinished()
    assert "BlockBuilder destroyed" in capfd.readouterr().err


def test_blocks_of_several_threads_overlap(capfd: pytest.CaptureFixture) -> None:
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with quiet_tvm():
            entered.set()
            left.wait(10)
            leave_unfinished()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with quiet_tvm():
        pass
    left.set()
    thread.join()
    assert capfd.readouterr() == ("", "")


def test_what_an_error_leaves_unfinished_is_quiet_too(capfd: pytest.CaptureFixture) -> None:
    def fail() -> None:
        builder = relax.BlockBuilder()
        builder._begin_binding_block()
        raise ValueError(len(str(builder)))

    @quiet_tvm()
    def explain() -> None:
        try:
            fail()
        except ValueError as error:
            raise ModelError("no") from error

    with pytest.raises(ModelError) as raised:
        explain()
    assert str(raised.value.__cause__)
    del raised
    assert capfd.readouterr() == ("", "")


class Rows(nn.Module):
    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.take(x, rows) * 2


def test_a_compilation_is_quiet_whether_it_works_or_not(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in "xw"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=2)],
        "test",
        values,
        [onnx.helper.make_tensor_value_info("y", 1, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot import Conv"):
        fc.compile(tmp_path / "m.onnx")
    fc.compile(Rows().eval(), (torch.arange(6.0), torch.tensor([5, 0])), target="x86_64-linux-gnu")
    assert capfd.readouterr() == ("", "")
