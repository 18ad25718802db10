from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_fastconv import compile, load
from tvm_fastconv.demo import run_demo, trained_model
from tvm_fastconv.evaluate import evaluate


@pytest.mark.slow
def test_the_compiled_classifier_is_as_good_as_the_trained_one(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    stages: list[str] = []
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    row, binary, lookup = run_demo(save_to=tmp_path / "digits.so", progress=stages.append)
    assert row.method == "dense"
    assert row.accuracy_compiled == row.accuracy_torch
    assert row.accuracy_torch > 0.97  # 0.99 measured; a linear classifier reaches 0.95
    assert [time.engine for time in row.times] == ["fastconv", "torch", "onnxruntime", "openvino"]
    assert [time.status for time in row.times[:2]] == ["ok", "ok"]
    assert evaluate(load(tmp_path / "digits.so"), "digits").accuracy == row.accuracy_compiled
    assert "bitserial: compiling" in stages
    assert binary.method == "bitserial"
    assert binary.accuracy_compiled == binary.accuracy_torch
    assert binary.accuracy_torch > 0.96  # 0.98 measured
    assert lookup.method == "lookup"
    assert lookup.accuracy_compiled == lookup.accuracy_torch
    assert lookup.accuracy_torch > 0.98  # 0.99 measured
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_bits_are_equal_layer_by_layer_on_every_held_out_image() -> None:
    pytest.importorskip("sklearn")
    from tvm_fastconv.train.digits import load_digits
    from tvm_fastconv.train.models import BinaryDigitsNet

    digits = load_digits()
    model = trained_model(BinaryDigitsNet, digits)
    images = torch.from_numpy(digits.test_images)
    steps = [model.stem, model.block1, model.pool, model.block2, model.block3]
    for count in (1, 3, 4, 5):
        prefix = torch.nn.Sequential(*steps[:count]).eval()
        with torch.no_grad():
            bits = prefix(images) >= 0
        compiled = compile(_Bits(prefix).eval(), (images,))
        np.testing.assert_array_equal(compiled(images).numpy(), np.where(bits, 1.0, -1.0))
    with torch.no_grad():
        want = model(images).argmax(1)
    np.testing.assert_array_equal(compile(model, (images,))(images).argmax(1), want)


@pytest.mark.slow
def test_lookups_give_the_same_answer_on_every_held_out_image() -> None:
    pytest.importorskip("sklearn")
    from tvm_fastconv.train.digits import load_digits
    from tvm_fastconv.train.models import LookupDigitsNet

    digits = load_digits()
    model = trained_model(LookupDigitsNet, digits)
    densities = {
        name: (part.sparse_weight() != 0).float().mean().item()
        for name, part in model.named_modules()
        if name.endswith("lookups")
    }
    assert max(densities.values()) < 0.3  # 0.14 measured
    images = torch.from_numpy(digits.test_images)
    compiled = compile(model, (images[:1],))
    with torch.no_grad():
        want = model(images).argmax(1)
    got = torch.cat([compiled(image[None]) for image in images]).argmax(1)
    np.testing.assert_array_equal(got, want)
    methods = {layer.name: layer.method for layer in compiled.layers}
    dense = ("stem.conv", "classifier")
    assert methods == {name: "dense" if name in dense else "lookup" for name in methods}
    assert densities.keys() < methods.keys()


class _Bits(torch.nn.Module):
    """The decisions about what ``prefix`` computes."""

    def __init__(self, prefix: torch.nn.Module) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(self.prefix(x) >= 0, 1.0, -1.0)
