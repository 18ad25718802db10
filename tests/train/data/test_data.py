"""Data sets: IDX files, Fashion-MNIST where Debian puts it, folders through Hugging Face, batches, augmentation."""

import builtins
import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tvm_fastconv.errors import TrainError
from tvm_fastconv.train import data as data_sets
from tvm_fastconv.train.data import ImageData, as_floats, load_data
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.data.batches import Batches
from tvm_fastconv.train.data.hub import prepared
from tvm_fastconv.train.data.idx import FILES, read_idx
from tvm_fastconv.train.data.lazy_images import LazyImages

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 6, 5), np.uint8)
LABELS = RNG.integers(0, 3, 20).astype(np.uint8)


def _idx(array: np.ndarray) -> bytes:
    """As http://yann.lecun.com/exdb/mnist describes it."""
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def _write(folder: Path, zipped: bool) -> None:
    for part, name in FILES.items():
        raw = _idx(IMAGES if part.endswith("images") else LABELS)
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(raw) if zipped else raw)


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_as_lecun_wrote_them(tmp_path: Path, zipped: bool) -> None:
    _write(tmp_path, zipped)
    found = load_data(str(tmp_path))
    np.testing.assert_array_equal(found.train_images[:, 0], IMAGES)
    np.testing.assert_array_equal(found.test_labels, LABELS)
    assert (found.classes, found.channels, found.size) == (int(LABELS.max()) + 1, 1, 6)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01aaaa", "is no IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x03", "is no IDX file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03ab", "holds 2 bytes; its header says 3"),
        (b"\x1f\x8bnothing", "cannot be read"),
        (gzip.compress(_idx(LABELS), mtime=0)[:-9], "cannot be read"),
    ],
    ids=["empty", "floats", "header", "short", "no gzip", "cut"],
)
def test_damaged_idx_files_are_said(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(raw)
    with pytest.raises(TrainError, match=message):
        read_idx(path)


def test_fashion_mnist_is_found_where_debian_puts_it() -> None:
    if not (data_sets.SHARED / "fashion-mnist").is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    found = load_data("fashion-mnist")
    assert found.train_images.shape == (60000, 1, 28, 28)
    assert found.test_images.shape == (10000, 1, 28, 28)
    assert (np.bincount(found.train_labels) == 6000).all()
    assert (np.bincount(found.test_labels) == 1000).all()


def _save_images(folder: Path) -> None:
    from PIL import Image

    for split, label in itertools.product(("train", "test"), ("cat", "dog")):
        (folder / split / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((8, 12, 3), 40 * number + (label == "dog"), np.uint8)
            Image.fromarray(pixels).save(folder / split / label / f"{number}.png")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("_offline")
def test_image_folders_become_classes(tmp_path: Path) -> None:
    _save_images(tmp_path / "pets")
    found = load_data(str(tmp_path / "pets"))
    assert found.train_images.shape == (6, 3, 8, 12)
    assert found.train_images[:, 0, 0, 0].tolist() == [0, 40, 80, 1, 41, 81]
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert load_data(str(tmp_path / "pets"), size=4).test_images.shape == (6, 3, 4, 4)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_parquet_and_arrow_folders_are_read(tmp_path: Path, kind: str) -> None:
    import datasets

    _save_images(tmp_path / "pets")
    source = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "pets"))
    folder = tmp_path / kind
    if kind == "arrow":
        source.save_to_disk(str(folder))
    else:
        folder.mkdir()
        for split, rows in source.items():
            rows.to_parquet(str(folder / f"{split}-0.parquet"))
    found = load_data(str(folder))
    assert found.test_images[:, 2, 3, 3].tolist() == [0, 40, 80, 1, 41, 81]
    assert found.classes == 2


@pytest.mark.usefixtures("_offline")
def test_what_is_too_large_for_memory_is_decoded_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_images(tmp_path / "pets")
    whole = load_data(str(tmp_path / "pets"))
    monkeypatch.setattr("tvm_fastconv.train.data.hub.IN_MEMORY", 1000)
    lazy = load_data(str(tmp_path / "pets"))
    assert isinstance(lazy.train_images, LazyImages)
    assert (lazy.train_images.shape, lazy.channels, lazy.size) == ((6, 3, 8, 12), 3, 8)
    for mine, theirs in zip(*(_epoch(data) for data in (lazy, whole)), strict=True):
        assert torch.equal(mine, theirs)
    np.testing.assert_array_equal(lazy.examples(2), whole.examples(2))
    mine, theirs = (list(data.test_batches(4)) for data in (lazy, whole))
    assert [len(images) for images, _ in mine] == [4, 2]
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(mine, theirs, strict=True))


def _epoch(data: ImageData) -> list[torch.Tensor]:
    batches = data.batches(batch_size=4, seed=3, augmentation=Augmentation(crop=1, flip=True))
    return [part for pair in batches.epoch(1) for part in pair]


def test_of_16_bits_the_upper_ones_count(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.array([[0, 255, 256], [30000, 65279, 65535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        np.testing.assert_array_equal(prepared(image, None)[0], pixels >> 8)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("limit", [1000, 1 << 32])
@pytest.mark.parametrize("cut", [False, True])
def test_images_that_are_damaged_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, cut: bool
) -> None:
    _save_images(tmp_path / "pets")
    image = next((tmp_path / "pets" / "train").glob("*/*2.png"))
    image.write_bytes(image.read_bytes()[:-30] if cut else b"no image")
    monkeypatch.setattr("tvm_fastconv.train.data.hub.IN_MEMORY", limit)
    with pytest.raises(TrainError, match="pets has images that cannot be read: "):
        load_data(str(tmp_path / "pets")).examples(6)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("limit", [1000, 1 << 32])
def test_images_of_different_sizes_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    _save_images(tmp_path / "pets")
    from PIL import Image

    Image.new("RGB", (5, 5)).save(next((tmp_path / "pets" / "train").glob("*/*2.png")))
    monkeypatch.setattr("tvm_fastconv.train.data.hub.IN_MEMORY", limit)
    with pytest.raises(TrainError, match="images of different sizes, or grey ones beside coloured"):
        load_data(str(tmp_path / "pets")).examples(6)
    assert load_data(str(tmp_path / "pets"), size=4).train_images.shape == (6, 3, 4, 4)


@pytest.mark.usefixtures("_offline")
def test_a_folder_of_something_else_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("nothing")
    with pytest.raises(
        TrainError, match=r"cannot be had .*; hand over a folder of IDX, parquet or arrow files"
    ):
        load_data(str(tmp_path / "text"))


@pytest.mark.parametrize("missing", ["datasets", "sklearn"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TrainError, match=r"pip install 'tvm-fastconv\[train\]'"):
        load_data("digits" if missing == "sklearn" else "cifar10")


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(
        TrainError, match="data set 'cifar' is not known; known are digits, mnist, fashion-mnist"
    ):
        load_data("cifar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros(3, np.int64)}, r"shapes \(4, 1, 2, 2\) and \(3,\)"),
        ({"test_labels": np.full(4, 5)}, "test labels are 5 to 5; allowed: 0 to 1"),
        ({"test_images": np.zeros((4, 3, 2, 2))}, "allowed: one shape"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, np.ndarray], message: str) -> None:
    images, labels = np.zeros((4, 1, 2, 2)), np.zeros(4, np.int64)
    fields = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    with pytest.raises(TrainError, match=message):
        ImageData(name="x", classes=2, **fields | changes)


def _batches(**options: Any) -> Batches:
    images = np.arange(10, dtype=np.uint8).repeat(36).reshape(10, 1, 6, 6)
    return Batches(images=images, labels=np.arange(10), **{"batch_size": 4, **options})


def test_without_a_seed_all_images_come_in_their_order() -> None:
    batches = list(_batches().epoch(0))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(_batches()) == 3
    assert torch.equal(batches[2][0], torch.tensor([8, 9]).view(2, 1, 1, 1).expand(2, 1, 6, 6) / 255)


def test_the_order_depends_on_seed_and_epoch_alone_wherever_one_starts() -> None:
    orders = [
        [labels.tolist() for _, labels in _batches(seed=seed).epoch(epoch)]
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert orders[0] == orders[1]
    assert len({str(order) for order in orders}) == 3
    assert len(orders[0]) == len(_batches(seed=1)) == 2  # the last is not full
    assert [labels.tolist() for _, labels in _batches(seed=1).epoch(0, start=1)] == orders[0][1:]


def test_processes_share_a_batch_with_the_same_augmentation() -> None:
    augmentation = Augmentation(crop=2, flip=True, erase=2)
    options = {"seed": 3, "augmentation": augmentation}
    whole = [
        torch.cat([images.flatten(1), labels[:, None]], 1) for images, labels in _batches(**options).epoch(5)
    ]
    for rank in range(2):
        mine = _batches(rank=rank, world=2, **options).epoch(5)
        for want, (images, labels) in zip(whole, mine, strict=True):
            assert torch.equal(torch.cat([images.flatten(1), labels[:, None]], 1), want[rank::2])


def test_augmentation_moves_mirrors_and_erases() -> None:
    images = torch.rand(64, 2, 8, 8) + 1
    generator = torch.Generator().manual_seed(0)
    part = slice(0, 64, 1)
    moved = Augmentation(crop=2)(images, generator, part)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for got, source in zip(moved, padded, strict=True):
        assert any(torch.equal(got, source[:, y : y + 8, x : x + 8]) for y in range(5) for x in range(5))
    flipped = Augmentation(flip=True)(images, generator, part)
    same = (flipped == images).flatten(1).all(1)
    assert torch.equal(flipped[~same], images[~same].flip(3))
    assert 16 < same.sum() < 48
    erased = Augmentation(erase=4)(images, generator, part)
    assert (((erased == 0).sum((2, 3)) <= 25) & ((erased == 0) | (erased == images)).all(-1).all(-1)).all()
    assert (erased == 0).any()
    with pytest.raises(TrainError, match="crop is -1; allowed: 0 or more"):
        Augmentation(crop=-1)


def test_bytes_stand_for_shares() -> None:
    assert as_floats(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert as_floats(np.array([0.25])).tolist() == [0.25]
