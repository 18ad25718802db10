import numpy as np
import torch
from torch import nn

from tvm_fastconv.train.fit import accuracy, fit


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


def test_accuracy_counts_the_largest_score() -> None:
    images = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)
    assert accuracy(nn.Flatten(), images, np.array([0, 1, 2, 0])) == 0.75
