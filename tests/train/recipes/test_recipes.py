"""The experiments of the predecessors: each runs, on small data, and trains what it says."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_fastconv.train import data as data_sets
from tvm_fastconv.train import recipes
from tvm_fastconv.train.data.image_data import ImageData
from tvm_fastconv.train.models.all_cnn import FORMS
from tvm_fastconv.train.recipes.separable_grid import NETWORKS
from tvm_fastconv.train.running import Job, load_checkpoint, run_job

pytest.importorskip("lightning_fabric")

FORM_LAYERS: dict[str, set[str]] = {
    "std": set(),
    "fac": {"SpatialSeparableConv2d"},
    "sep": {"DepthwiseSeparableConv2d"},
    "cp": {"CPConv2d"},
}

LAYERS: dict[str, tuple[Callable[[], Job], set[str]]] = {
    "lookups": (lambda: recipes.lookup_alexnet(batch_size=8, width=0.13), {"LookupConv2d"}),
    "dense alexnet": (lambda: recipes.lookup_alexnet(preset=None, batch_size=8, width=0.05), set()),
    "stencils": (lambda: recipes.fixed_stencils(width=4), {"FixedStencilConv2d"}),
    "no stencils": (lambda: recipes.fixed_stencils(fixed=False, width=4), set()),
    "binary": (lambda: recipes.binary_conv_net(width=4), {"BinaryConv2d", "BinaryLinear"}),
    "xnor": (lambda: recipes.xnor_mlp(hidden=32), {"BinaryLinear"}),
    **{
        f"{plan} {form}": (
            lambda plan=plan, form=form: recipes.separable_grid(plan, form, width=0.05),
            FORM_LAYERS[form] | (FORM_LAYERS["sep"] if plan == "adequately_designed" else set()),
        )
        for plan, form in itertools.product(NETWORKS, FORMS)
    },
}  # fmt: skip


def _small(job: Job) -> ImageData:
    side = job.size or 32
    images = np.random.default_rng(0).random((16, 1, side, side), np.float32)
    labels = np.arange(16) % 10
    return ImageData(
        name=job.data, classes=10, train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )  # fmt: skip


@pytest.mark.parametrize(("make", "layers"), LAYERS.values(), ids=LAYERS)
def test_it_trains_what_it_says(
    make: Callable[[], Job], layers: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make()
    job = replace(job, settings=replace(job.settings, epochs=1, batch_size=8, warmup=0.0))
    monkeypatch.setattr("tvm_fastconv.train.running.job.load_data", lambda *_: _small(job))
    trained = run_job(job, out=tmp_path / "out")
    assert len(trained.history) == 1
    checkpoint = load_checkpoint(tmp_path / "out" / "last.ckpt")
    assert {entry["layer"] for entry in checkpoint.structure.values()} == layers
    assert job.data in data_sets.KNOWN
