import numpy as np
import torch
from torch import nn

from tvm_fastconv.train.fit import accuracy, fit
from tvm_fastconv.train.layers import LookupConv2d


def _task() -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is the quadrant that is bright."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    images = generator.standard_normal((200, 1, 4, 4)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = 2 * (label // 2), 2 * (label % 2)
        image[0, row : row + 2, column : column + 2] += 3
    return images, labels


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def test_it_learns_and_reports_every_epoch() -> None:
    images, labels = _task()
    model, losses = _model(), []
    before = accuracy(model, images, labels)
    fit(
        model,
        images,
        labels,
        epochs=5,
        learning_rate=0.05,
        progress=lambda epoch, loss: losses.append((epoch, loss)),
    )
    assert accuracy(model, images, labels) > max(0.95, before)
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4, 5]
    assert losses[-1][1] < losses[0][1]
    assert not model.training


def test_the_same_seed_gives_the_same_weights() -> None:
    images, labels = _task()
    weights = []
    for seed in (0, 0, 1):
        model = _model()
        torch.manual_seed(seed + 17)  # the global generator must not matter
        fit(model, images, labels, epochs=2, seed=seed)
        weights.append(model[1].weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0], weights[2])


def test_what_layers_ask_for_is_added_to_the_loss() -> None:
    images, labels = _task()
    densities = []
    for penalty in (0.0, 10.0):
        torch.manual_seed(0)
        conv = LookupConv2d(1, 8, 3, dictionary_size=2, padding=1, penalty=penalty)
        model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
        fit(model, images, labels, epochs=15, learning_rate=0.02)
        assert accuracy(model, images, labels) > 0.95
        densities.append(conv.density)
    assert densities[0] > 0.8
    assert densities[1] < 0.6


def test_accuracy_counts_the_largest_score() -> None:
    images = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)
    assert accuracy(nn.Flatten(), images, np.array([0, 1, 2, 0])) == 0.75


def test_densities_asked_for_are_reached() -> None:
    images, labels = _task()
    torch.manual_seed(0)
    conv = LookupConv2d(1, 8, 3, dictionary_size=2, padding=1)
    conv.lookups.target_density = 0.2
    fit(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)), images, labels, epochs=5)
    assert 0.15 < conv.density <= 0.2
