import numpy as np
import pytest
import torch

from tvm_fastconv.errors import MethodError
from tvm_fastconv.measure import rivals
from tvm_fastconv.measure.rivals import RIVALS, TOLERANCE, build_callable, build_rival, reference_outputs


class TwoOutputs(torch.nn.Module):
    """Two inputs, two outputs, batch norm: everything that an engine may mix up or fold."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)

    def forward(self, x, y):
        z = torch.relu(self.norm(self.conv(x)))
        return z, z.mean((2, 3)) - y


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    module = TwoOutputs()
    module(torch.randn(4, 3, 9, 9), torch.zeros(4, 8))  # in training mode: batch norm gets statistics
    return module.eval(), (torch.randn(1, 3, 9, 9), torch.randn(1, 8))


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_answers_like_pytorch_again_and_again(model, name):
    pytest.importorskip(RIVALS[name][0])
    engine = build_rival(name, *model)
    assert (engine.status, engine.detail) == ("ok", "")
    assert engine.version
    assert engine.error <= TOLERANCE
    assert engine.build_seconds > 0
    engine.run()
    engine.run()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_inputs_are_read_in_place(name):
    pytest.importorskip(name)
    x = torch.ones(1, 4, 4, 4)
    runner = RIVALS[name][1](torch.nn.ReLU(), (x,), 1)
    x.fill_(3.0)
    assert np.array_equal(runner.read(runner.run())[0], x.numpy())


def test_torch_compile_freezes_weights():
    x = torch.ones(1, 3, 8, 8)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    runner = RIVALS["torch_compile"][1](module, (x,), 1)
    before = runner.run().clone()
    with torch.no_grad():
        module[0].weight.zero_()
    assert torch.equal(runner.run(), before)


def test_wrong_answer_is_reported_and_cannot_be_timed(model, monkeypatch):
    exact = reference_outputs(*model)
    off = tuple(np.where(y == np.abs(y).max(), y * (1 + 3 * TOLERANCE), y) for y in exact)
    engine = build_callable("mine", lambda: lambda: off, reference=exact)
    assert (engine.status, engine.run) == ("wrong", None)
    assert engine.error == pytest.approx(3 * TOLERANCE, rel=0.1)
    assert "differs" in engine.detail

    monkeypatch.setitem(RIVALS, "torch", ("torch", lambda *_: rivals._Runner(lambda: off, list)))
    assert build_rival("torch", *model).status == "wrong"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (np.full(3, np.nan, np.float32), "differs"),
        (np.zeros((1, 3), np.float32), "shapes"),
        ((np.zeros(3, np.float32), np.zeros(3, np.float32)), "shapes"),
    ],
)
def test_nan_and_other_shapes_are_wrong(answer, complaint):
    engine = build_callable("mine", lambda: lambda: answer, reference=(np.zeros(3, np.float32),))
    assert engine.status == "wrong"
    assert complaint in engine.detail


def test_failure_is_reported_with_its_reason():
    def build():
        raise ValueError("bad layer\nand a long story")

    engine = build_callable("mine", build)
    assert (engine.status, engine.detail, engine.run) == ("failed", "ValueError: bad layer", None)


def test_missing_package_is_reported(model, monkeypatch):
    def refuse(name):
        raise ImportError(f"no {name} here")

    monkeypatch.setattr(rivals.importlib, "import_module", refuse)
    engine = build_rival("openvino", *model)
    assert engine.status == "absent"
    assert "no openvino here" in engine.detail


def test_unknown_name_lists_the_known(model):
    with pytest.raises(MethodError, match=r"tensorrt.*openvino"):
        build_rival("tensorrt", *model)
