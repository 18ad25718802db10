"""The training loop: that it learns, what it writes, and that a cut changes nothing."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.errors import TrainError
from tvm_fastconv.train.data import ImageData
from tvm_fastconv.train.layers import BinaryConv2d, LookupConv2d
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.running import Settings, Trained, load_checkpoint, save_checkpoint, train
from tvm_fastconv.train.running.evaluate import BATCH, scores
from tvm_fastconv.train.running.loss import Loss
from tvm_fastconv.train.running.progress import advance_

pytest.importorskip("lightning_fabric")
NETWORK = {"name": "digits_net", "classes": 4, "channels": 1, "size": 8, "width": 8}
SETTINGS = Settings(epochs=3, batch_size=16, learning_rate=0.01)


def _data() -> ImageData:
    """Images whose class is the quadrant that is bright."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 240)
    images = generator.random((240, 1, 8, 8), np.float32) / 2
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 0.5
    return ImageData(
        name="quadrants", classes=4, train_images=images[:200], train_labels=labels[:200],
        test_images=images[200:], test_labels=labels[200:],
    )  # fmt: skip


def _model(methods: Any = None) -> nn.Module:
    torch.manual_seed(0)
    return make_model(**NETWORK, methods=methods)


def _changed(**changes: Any) -> Settings:
    return Settings(**{**vars(SETTINGS), **changes})


def _weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


@pytest.mark.parametrize("methods", [None, "binary", "lcnn-fast", "fixed"])
def test_it_learns(methods: str | None) -> None:
    lines: list[str] = []
    trained = train(_model(methods), _data(), SETTINGS, progress=lines.append)
    assert trained.history[-1]["top1"] > 0.8
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    assert trained.history[-1]["top5"] == 1
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert not trained.model.training
    assert sum(line.startswith("tested after epoch") for line in lines) == 3
    assert any("step 12 of 12" in line and "s left" in line for line in lines)


def test_on_packed_bits_the_losses_are_the_same() -> None:
    # In float64, without poolings: in float32 the rounding of a sum turns a sign somewhere, and all that follows is
    # another; among sums of bits the largest is often there twice, and rounding says which gets the gradient.
    def trained(on: bool) -> Trained:
        torch.manual_seed(0)
        model = make_model("all_cnn_c", classes=4, channels=1, size=8, width=0.08, methods="binary")
        return train(model, _data(), _changed(epochs=2, xnor=on, precision="64-true"))

    plain, packed = trained(False), trained(True)
    assert all(part.runs_on_bits for part in packed.model.modules() if isinstance(part, BinaryConv2d))
    for before, after in zip(plain.history, packed.history, strict=True):
        # Adam divides sums in another order by their size
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-6)


def test_learned_steps_are_trained_at_a_rate_of_their_size(tmp_path: Path) -> None:
    train(_model("2-bit"), _data(), _changed(schedule="constant"), out=tmp_path)
    groups = load_checkpoint(tmp_path / "last.ckpt").training["optimizer"]["param_groups"]
    assert len({group["scale"] for group in groups}) > 3
    assert all(group["lr"] == SETTINGS.learning_rate * group["scale"] for group in groups)


def test_without_tvm_bits_train_on_pytorch_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="TVM, which is not installed.* on PyTorch alone"):
        trained = train(_model("binary"), _data(), _changed(xnor=True, epochs=1))
    assert len(trained.history) == 1


def test_one_seed_gives_one_result_whatever_was_drawn_before() -> None:
    weights = []
    for seed, drawn in ((0, 3), (0, 5), (1, 3)):
        model = nn.Sequential(nn.Dropout(0.1), _model())
        torch.rand(drawn)
        state = torch.get_rng_state()
        weights.append(_weights(train(model, _data(), _changed(seed=seed)).model))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class _Cut(Exception):
    pass


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("methods", ["lcnn-fast", "2-bit"])
def test_a_training_that_was_cut_ends_as_if_it_was_not(tmp_path: Path, methods: str, ema: float) -> None:
    settings = _changed(checkpoint_every=5, optimizer="sgd", learning_rate=0.05, ema=ema, accumulate=2)
    whole = train(_model(methods), _data(), settings, network=NETWORK, out=tmp_path / "whole")
    for cut in (3, 8, 9, 12):  # steps: before the first checkpoint, and somewhere in each epoch
        steps = 0

        def progress(text: str, cut: int = cut) -> None:
            nonlocal steps
            steps += ": step" in text
            if steps == cut:
                raise _Cut

        with pytest.raises(_Cut):
            _go_on(tmp_path, methods, settings, progress)
    torch.manual_seed(7)
    again = _go_on(tmp_path, methods, settings)
    assert torch.equal(_weights(again.model), _weights(whole.model))
    for got, want in zip(again.history, whole.history, strict=True):
        assert got | {"images_per_second": 0} == want | {"images_per_second": 0}


def _go_on(
    folder: Path, methods: str, settings: Settings, progress: Callable[[str], None] = lambda text: None
) -> Trained:
    out = folder / "cut"
    return train(_model(methods), _data(), settings, network=NETWORK, out=out, resume=True, progress=progress)


def test_what_it_leaves(tmp_path: Path) -> None:
    trained = train(_model("lcnn-fast"), _data(), SETTINGS, network=NETWORK, out=tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"last.ckpt", "best.ckpt", "metrics.csv"} <= names
    assert not any(name.startswith(".") for name in names)
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["top1"]) for row in rows] == [row["top1"] for row in trained.history]
    assert float(rows[-1]["density/block1.conv.lookups"]) == pytest.approx(0.1, abs=0.01)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(checkpoint.model()(images), trained.model(images))
    assert checkpoint.parsed_settings() == SETTINGS
    best = load_checkpoint(tmp_path / "best.ckpt")
    assert best.history[-1]["top1"] == max(row["top1"] for row in trained.history)


@pytest.mark.parametrize(
    ("name", "module"), [("curves.png", "matplotlib"), ("events.out", "torch.utils.tensorboard")]
)
def test_pictures_and_events_are_left_where_there_is_what_draws_them(
    tmp_path: Path, name: str, module: str
) -> None:
    pytest.importorskip(module)
    train(_model("binary"), _data(), _changed(epochs=2), out=tmp_path)
    assert any(path.name.startswith(name) and path.stat().st_size > 1000 for path in tmp_path.iterdir())


def test_events_show_weights_activations_and_gradients_and_what_they_are_rounded_to(tmp_path: Path) -> None:
    pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(_model("binary"), _data(), _changed(epochs=2), out=tmp_path)
    events = EventAccumulator(str(tmp_path), {"histograms": 0}).Reload()
    shown = set(events.Tags()["histograms"])
    binary = {"quantized_weights/block1.conv", "quantized_activations/block1.conv"}
    assert binary | {"weights/block1.conv.weight", "gradients/block1.conv.weight"} <= shown
    assert {"activations/stem.conv", "activations/block1.conv", "activations/classifier"} <= shown
    assert "quantized_weights/stem.conv" not in shown
    assert {"train_loss", "top1", "images_per_second", "flips/block1.conv"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Histograms("activations/stem.conv")] == [1, 2]


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    train(_model(), _data(), SETTINGS, out=tmp_path)
    with pytest.raises(TrainError, match="holds a training already; resume it"):
        train(_model(), _data(), SETTINGS, out=tmp_path)
    with pytest.raises(TrainError, match=r"the training to resume has learning_rate 0.01, not 0.02"):
        train(_model(), _data(), _changed(learning_rate=0.02), out=tmp_path, resume=True)
    with pytest.raises(TrainError, match="the checkpoint is of another network"):
        train(_model("cp"), _data(), SETTINGS, out=tmp_path, resume=True)


def test_too_few_images_are_said() -> None:
    with pytest.raises(TrainError, match="quadrants has 200 images to train on, and a batch is 256"):
        train(_model(), _data(), _changed(batch_size=256))


def test_parts_of_a_batch_are_as_good_as_the_whole() -> None:
    class Plain(nn.Sequential):  # no batch norm: its statistics are those of the part
        def __init__(self) -> None:
            torch.manual_seed(0)
            super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

    weights = [_weights(train(Plain(), _data(), _changed(accumulate=parts)).model) for parts in (1, 4)]
    # 1e-4: Adam divides sums in another order by their size, some of them near 0
    torch.testing.assert_close(*weights, rtol=0, atol=1e-4)


def test_the_average_is_what_is_tested_and_exported(tmp_path: Path) -> None:
    model = _model()
    trained = train(model, _data(), _changed(ema=0.95), network=NETWORK, out=tmp_path)
    assert not torch.equal(trained.model.classifier.weight, model.classifier.weight)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(load_checkpoint(tmp_path / "last.ckpt").model()(images), trained.model(images))


def test_progressive_training_goes_from_floats_to_bits() -> None:
    model, settings = _model("binary"), _changed(progressive=True)
    layers = [part for part in model.modules() if isinstance(part, BinaryConv2d)]
    for share, wanted in (
        (0.0, (False, False)),
        (0.4, (True, False)),
        (0.7, (True, True)),
        (1.0, (True, True)),
    ):
        advance_(model, settings, share)
        assert {(layer.quantizes_input, layer.quantizes_weight) for layer in layers} == {wanted}
    advance_(model, SETTINGS, 0.0)
    assert all(layer.quantizes_input and layer.quantizes_weight for layer in layers)
    assert train(_model("binary"), _data(), _changed(progressive=True, epochs=6)).history[-1]["top1"] > 0.8


def test_densities_fall_to_what_is_asked() -> None:
    model = _model("lcnn-fast")
    layer = model.block1.conv
    assert isinstance(layer, LookupConv2d)
    densities = []
    for share in (0.0, 0.2, 0.5, 0.7, 1.0):
        advance_(model, SETTINGS, share)
        densities.append(layer.density)
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > 0.95
    assert densities[3] == densities[4] == pytest.approx(0.1, abs=0.01)


def test_a_teacher_is_come_near_to() -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(5, 3), nn.Linear(5, 3)
    x, y = torch.randn(7, 5), torch.randint(0, 3, (7,))
    settings = Settings(distillation=1.0, temperature=2.0)
    got = Loss(settings, teacher)(student, x, y)
    wanted, scores = (torch.softmax(model(x) / 2, 1) for model in (teacher, student))
    want = (wanted * (wanted / scores).log()).sum(1).mean() * 4
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(Loss(settings, teacher)(teacher, x, y), torch.zeros(()), rtol=0, atol=1e-6)
    plain = Loss(Settings(distillation=0.0), teacher)(student, x, y)
    torch.testing.assert_close(plain, nn.functional.cross_entropy(student(x), y))


def test_the_best_is_chosen_among_networks_that_are_what_they_will_be(tmp_path: Path) -> None:
    train(
        _model("binary"), _data(), _changed(epochs=6, progressive=True, learning_rate=0.03),
        network=NETWORK, out=tmp_path,
    )  # fmt: skip
    best = load_checkpoint(tmp_path / "best.ckpt")
    assert len(best.history) >= 4  # two thirds of six epochs, where weights become bits
    right = scores(best.model(), _data().test_batches(BATCH)).top1
    assert right == pytest.approx(best.history[-1]["top1"])


def test_a_loss_that_is_no_number_is_said_and_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"the loss is (nan|inf) in epoch \d; try a lower learning rate"):
        train(_model(), _data(), _changed(optimizer="sgd", learning_rate=1e38), out=tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_other_densities_are_not_gone_on_with(tmp_path: Path) -> None:
    methods = [{"block1.conv": fc.Lookup(dictionary_size=4, density=density)} for density in (0.5, 0.1)]
    train(_model(methods[0]), _data(), SETTINGS, out=tmp_path)
    with pytest.raises(TrainError, match=r"density of block1.conv.lookups 0.5, not 0.1"):
        train(_model(methods[1]), _data(), SETTINGS, out=tmp_path, resume=True)


def test_other_bits_are_not_gone_on_with(tmp_path: Path) -> None:
    train(_model({"block1.conv": fc.Bitserial(weight_bits=2)}), _data(), SETTINGS, out=tmp_path)
    with pytest.raises(TrainError, match=r"layer block1.conv with weight_bits 2, not 3"):
        train(
            _model({"block1.conv": fc.Bitserial(weight_bits=3)}), _data(), SETTINGS, out=tmp_path, resume=True
        )


def test_settings_of_another_version_are_not_gone_on_with(tmp_path: Path) -> None:
    train(_model(), _data(), SETTINGS, out=tmp_path)
    stored = load_checkpoint(tmp_path / "last.ckpt")
    stored.settings["mixup"] = 0.2
    save_checkpoint(stored, tmp_path / "last.ckpt")
    with pytest.raises(TrainError, match=r"has mixup 0.2, not None"):
        train(_model(), _data(), SETTINGS, out=tmp_path, resume=True)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    def inner(line: str) -> None:
        if "step 1 of" in line:
            train(_model(), _data(), SETTINGS, out=tmp_path)

    with pytest.raises(TrainError, match="another training is writing into"):
        train(_model(), _data(), SETTINGS, out=tmp_path, progress=inner)
    train(_model(), _data(), SETTINGS, out=tmp_path)


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(TrainError, match="cannot be written to"):
        train(_model(), _data(), SETTINGS, out=tmp_path)
    (tmp_path / "metrics.csv").rmdir()
    (tmp_path / "best.ckpt").mkdir()
    with pytest.raises(TrainError, match=r"best.ckpt cannot be written: "):
        train(_model(), _data(), SETTINGS, out=tmp_path)


@pytest.mark.parametrize("name", ["xnor", "progressive"])
def test_what_is_for_bits_is_refused_without_them(name: str) -> None:
    with pytest.raises(TrainError, match=f"{name} is for binary layers, and the network has none"):
        train(_model("cp"), _data(), _changed(**{name: True}))
