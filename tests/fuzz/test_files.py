"""The damage is done, depends on its number only, and what it plants would run."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path

import pytest

from . import files
from .damage import Canary, damaged_archive, damaged_bytes, damaged_tree
from .files import Damaged, Files
from .manifests import Manifests


def test_damage_depends_on_its_number_only() -> None:
    data = bytes(range(256)) * 4
    damaged = [damaged_bytes(data, random.Random(seed)) for seed in range(200)]
    assert damaged == [damaged_bytes(data, random.Random(seed)) for seed in range(200)]
    assert sum(new != data for new in damaged) > 190
    tree = {"a": [1, 2, {"b": "c"}], "d": None}
    changed = [damaged_tree(json.loads(json.dumps(tree)), random.Random(seed), "c") for seed in range(200)]
    assert sum(new != tree for new in changed) > 150


def test_a_planted_pickle_is_in_the_archive_and_runs(tmp_path: Path) -> None:
    buffer, canary = io.BytesIO(), tmp_path / "canary"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data", b"data")

    def plant(path: str) -> bytes:
        return pickle.dumps(Canary(path))

    changed = [
        damaged_archive(buffer.getvalue(), random.Random(seed), str(canary), plant) for seed in range(50)
    ]
    planted = next(data for data in changed if b"mkdir" in data)
    pickle.loads(zipfile.ZipFile(io.BytesIO(planted)).read("m/data"))
    assert canary.is_dir()


@pytest.mark.parametrize("suffix", [".so", ".onnx"])
def test_what_is_not_damaged_is_read(suffix: str) -> None:
    assert Files().run((Damaged(suffix, (), compiled=False),)) is None


def test_a_loaded_file_that_is_damaged_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files._READERS, ".so", lambda path, compiled: None)
    assert "a damaged file was loaded" in (Files().run((Damaged(".so", (1,), compiled=False),)) or "")


@pytest.mark.parametrize("generator", [Files(), Manifests()])
def test_a_few_cases_are_clean(generator: Files | Manifests) -> None:
    for index in range(2):
        case = generator.case(random.Random(index))
        assert generator.run(tuple(part for part in case if getattr(part, "suffix", "") != ".pt2")) is None
