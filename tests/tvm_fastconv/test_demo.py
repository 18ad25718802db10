import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_fastconv import compile, demo, load
from tvm_fastconv.demo import THREADS, run_demo, trained_model
from tvm_fastconv.measure.bench import bench
from tvm_fastconv.measure.evaluate import evaluate
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.train.data import ImageData, load_digits

SEPARABLE = ("spatial", "cp", "separable", "fixed")
LEAST_ACCURACY = {  # measured: 0.99 of each; a linear classifier reaches 0.95
    "dense": 0.97,
    "bitserial": 0.96,
    "lookup": 0.97,
    **dict.fromkeys(SEPARABLE, 0.97),
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    pytest.importorskip("sklearn")
    return load_digits()


@pytest.fixture(scope="module")
def trained(digits: ImageData) -> Callable[[str], torch.nn.Module]:
    """`trained_model`, which trains every network once, with as many threads as the demo."""

    @functools.cache
    def train(method: str) -> torch.nn.Module:
        threads = torch.get_num_threads()
        torch.set_num_threads(THREADS)
        model = trained_model(method, digits)
        torch.set_num_threads(threads)
        return model

    return train


@pytest.mark.slow
def test_the_compiled_classifiers_are_as_good_as_the_trained_ones(
    tmp_path: Path, trained: Callable[[str], torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "trained_model", lambda method, *_: trained(method))
    monkeypatch.setattr(demo, "bench", functools.partial(bench, repeats=2))
    stages: list[str] = []
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    rows = run_demo(save_to=tmp_path / "digits.so", progress=stages.append)
    assert [row.method for row in rows] == list(LEAST_ACCURACY)
    for row in rows:
        assert row.accuracy_compiled == row.accuracy_torch
        assert row.accuracy_torch >= LEAST_ACCURACY[row.method]
        assert [time.engine for time in row.times] == ["fastconv", "torch", "onnxruntime", "openvino"]
        assert [time.status for time in row.times[:2]] == ["ok", "ok"]
    assert evaluate(load(tmp_path / "digits.so"), "digits").accuracy == rows[0].accuracy_compiled
    assert "bitserial: compiling" in stages
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_bits_are_equal_layer_by_layer_on_every_held_out_image(
    digits: ImageData, trained: Callable[[str], torch.nn.Module]
) -> None:
    model = trained("bitserial")
    images = torch.from_numpy(digits.test_images)
    steps = [model.stem, model.block1, model.pool, model.block2, model.block3]
    sure = np.ones(len(images), bool)
    for count in (1, 3, 4, 5):
        prefix = torch.nn.Sequential(*steps[:count]).eval()
        with torch.no_grad():
            values = prefix(images)
        # A value within the noise of its float32 sum, 1e-6 of the largest, may fall on either side of the threshold;
        # from then on its image may differ. What a relu cut off is 0, and on the same side in any case.
        sure &= ((values == 0) | (values.abs() > 1e-6 * values.abs().max())).flatten(1).all(1).numpy()
        compiled = compile(_Bits(prefix).eval(), (images,))
        want = np.where(values >= 0, 1.0, -1.0)
        np.testing.assert_array_equal(compiled(images).numpy()[sure], want[sure])
    assert sure.mean() > 0.9
    _check_answers(compile(model, (images,)), model, images)


@pytest.mark.slow
def test_lookups_give_the_same_answer_on_every_held_out_image(
    digits: ImageData, trained: Callable[[str], torch.nn.Module]
) -> None:
    model = trained("lookup")
    densities = {
        name: (part.sparse_weight() != 0).float().mean().item()
        for name, part in model.named_modules()
        if name.endswith("lookups")
    }
    assert max(densities.values()) < 0.3  # 0.14 measured
    images = torch.from_numpy(digits.test_images)
    compiled = compile(model, (images[:1],))
    _check_answers(compiled, model, images)
    methods = {layer.name: layer.method for layer in compiled.layers}
    dense = ("stem.conv", "classifier")
    assert methods == {name: "dense" if name in dense else "lookup" for name in methods}
    assert densities.keys() < methods.keys()


@pytest.mark.slow
@pytest.mark.parametrize("method", SEPARABLE)
def test_separable_convolutions_give_the_same_answer_on_every_held_out_image(
    method: str, digits: ImageData, trained: Callable[[str], torch.nn.Module]
) -> None:
    images = torch.from_numpy(digits.test_images)
    _check_answers(compile(trained(method), (images[:1],)), trained(method), images)


def _check_answers(compiled: CompiledModel, model: torch.nn.Module, images: torch.Tensor) -> None:
    """Compare the classes that both give the images, as many at a time as the compiled model takes."""
    batch = compiled.manifest.inputs[0].shape[0]
    with torch.no_grad():
        want = model(images).argmax(1)
    got = torch.cat([compiled(part) for part in images.split(batch)]).argmax(1)
    np.testing.assert_array_equal(got, want)


class _Bits(torch.nn.Module):
    """The decisions about what ``prefix`` computes."""

    def __init__(self, prefix: torch.nn.Module) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(self.prefix(x) >= 0, 1.0, -1.0)
