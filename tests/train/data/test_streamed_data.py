"""Streaming: a folder that is a data set of the hub in all but its place, card included, read in shards."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_fastconv.errors import TrainError
from tvm_fastconv.train.data import StreamedData, load_data, stream_data
from tvm_fastconv.train.data.augment import NO_AUGMENTATION, Augmentation
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.running import Job, Settings, run_job, train

datasets = pytest.importorskip("datasets")
COUNT, SHARDS = 60, 4


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Image ``i`` is all of ``i``, its class ``i % 2``."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "numbers"
    (folder / "data").mkdir(parents=True)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    rows = {
        "image": [np.full((8, 8), number, np.uint8) for number in range(COUNT)],
        "label": [number % 2 for number in range(COUNT)],
    }
    whole = datasets.Dataset.from_dict(rows, features)
    for shard in range(SHARDS):
        part = whole.shard(SHARDS, shard, contiguous=True)
        part.to_parquet(str(folder / "data" / f"train-{shard:05}-of-{SHARDS:05}.parquet"))
    whole.select(range(10)).to_parquet(str(folder / "data" / "test-00000-of-00001.parquet"))
    (folder / "README.md").write_text(
        f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': even
          '1': odd
  splits:
  - name: train
    num_bytes: 1
    num_examples: {COUNT}
  - name: test
    num_bytes: 1
    num_examples: 10
---
"""
    )
    return str(folder)


def _numbers(data: StreamedData, epoch: int = 0, start: int = 0, **options: int) -> list[list[int]]:
    """Which images are in which batch, as their values tell."""
    batches = data.batches(**{"batch_size": 8, "seed": 1, "augmentation": NO_AUGMENTATION} | options)
    found = []
    for images, labels in batches.epoch(epoch, start):
        numbers = (images[:, 0, 0, 0] * 255).round().int().tolist()
        assert [number % 2 for number in numbers] == labels.tolist()
        found.append(numbers)
    return found


def test_all_images_come_in_an_order_of_seed_and_epoch(source: str) -> None:
    data = stream_data(source, 8)
    assert (data.classes, data.channels, data.size, data.count) == (2, 1, 8, COUNT)
    first = _numbers(data)
    assert len(first) == COUNT // 8
    assert all(len(batch) == 8 for batch in first)
    drawn = list(itertools.chain(*first))
    assert len(set(drawn)) == len(drawn)
    assert drawn != sorted(drawn)
    assert _numbers(data) == first
    assert _numbers(data, start=3) == first[3:]
    assert _numbers(data, epoch=1) != first
    assert _numbers(data, seed=2) != first


@pytest.mark.parametrize("world", [2, 3])
def test_processes_have_no_image_in_common(source: str, world: int) -> None:
    data = stream_data(source, 8)
    parts = [_numbers(data, batch_size=12, rank=rank, world=world) for rank in range(world)]
    assert all(len(part) == COUNT // 12 for part in parts)
    assert all(len(batch) == 12 // world for part in parts for batch in part)
    seen = [{number for batch in part for number in batch} for part in parts]
    assert not any(a & b for a, b in itertools.combinations(seen, 2))
    assert len(set.union(*seen)) == COUNT


def test_a_process_without_images_says_so(source: str) -> None:
    data = stream_data(source, 8)
    empty = dataclasses.replace(data, train=data.train.filter(lambda row: False))
    with pytest.raises(TrainError, match="process 1 of 2 has no images to read"):
        _numbers(empty, rank=1, world=2)


def test_what_is_tested_with_is_whole_and_in_order(source: str) -> None:
    images, labels = zip(*stream_data(source, 8).test_batches(4), strict=True)
    assert [len(batch) for batch in images] == [4, 4, 2]
    assert torch.cat(labels).tolist() == [number % 2 for number in range(10)]
    np.testing.assert_array_equal(torch.cat(images).numpy() * 255, load_data(source).test_images)


def test_training_goes_on_in_the_middle_of_an_epoch(source: str, tmp_path: Path) -> None:
    settings = Settings(epochs=2, batch_size=8, checkpoint_every=3, augmentation=Augmentation(crop=1))
    job = Job(data=source, network="digits_net", settings=settings, size=8, streaming=True)
    whole = run_job(job)

    class Cut(Exception):
        pass

    def cut(line: str) -> None:
        if "epoch 2 of 2: step 5" in line:
            raise Cut

    with pytest.raises(Cut):
        run_job(job, out=tmp_path / "run", progress=cut)
    resumed = run_job(job, out=tmp_path / "run", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_smaller_set_than_a_batch_is_said(source: str) -> None:
    model = make_model("digits_net", classes=2, channels=1, size=8)
    with pytest.raises(TrainError, match=f"numbers has {COUNT} images to train on, and a batch is 64"):
        train(model, stream_data(source, 8), Settings(batch_size=64))


def test_what_cannot_be_streamed_is_said(source: str, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="digits is small and here"):
        stream_data("digits", 8)
    with pytest.raises(TrainError, match="no size is given"):
        run_job(Job(data=source, network="digits_net", streaming=True))
    card = Path(source) / "README.md"
    card.write_text(card.read_text().partition("dataset_info")[0] + "---\n")
    with pytest.raises(TrainError, match=r"columns|does not say how many images"):
        stream_data(source, 8)
    (tmp_path / "folder" / "train").mkdir(parents=True)
    with pytest.raises(TrainError, match="it needs no --streaming"):
        stream_data(str(tmp_path / "folder"), 8)
