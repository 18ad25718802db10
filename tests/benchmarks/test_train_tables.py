"""Tables of trained networks: their small forms run whole; the large one of digits on request."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import (
    bench_train_digits,
    bench_train_fashion,
    bench_train_grid,
    bench_train_lookup,
    bench_train_xnor,
    trainings,
)
from benchmarks import bench_train_stencils as stencils
from tvm_fastconv.train.compress import compress_
from tvm_fastconv.train.data import load_digits
from tvm_fastconv.train.models import PRESETS, make_model
from tvm_fastconv.train.running import Job, Settings

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")


@pytest.mark.parametrize("preset", PRESETS)
def test_digits_by_every_method(preset: str) -> None:
    settings = replace(bench_train_digits.SETTINGS, epochs=2, warmup=0)
    row = bench_train_digits.accuracies(preset, 1, settings)
    assert row["mean"] > 0.25  # of ten classes; two epochs are little where most lookups are to be dropped
    # Where two classes have the same score to the last bit, either answer is right.
    assert row["other_answers"] <= 1


@pytest.mark.slow
@pytest.mark.table
def test_the_table_of_digits() -> None:
    means = {preset: bench_train_digits.accuracies(preset, 5)["mean"] for preset in PRESETS}
    assert means["dense"] >= 0.98
    assert min(means.values()) >= 0.94


def test_a_training_is_measured_against_the_dense_one_and_not_trained_again(tmp_path: Path) -> None:
    settings = Settings(epochs=2, batch_size=64)
    dense = Job(data="digits", network="digits_net", options={"width": 8}, settings=settings)
    for name, job in (("dense", dense), ("sep", replace(dense, methods="sep"))):
        first = trainings.trained(job, tmp_path / name).state
        again = trainings.trained(job, tmp_path / name).state
        assert all(torch.equal(first[key], again[key]) for key in first)
    row = trainings.measure(tmp_path / "sep", tmp_path / "dense", load_digits(), threads=1)
    history = trainings.trained(dense, tmp_path / "sep").history
    assert row["top1"] == pytest.approx(history[-1]["top1"])
    assert row["compiled_top1"] == pytest.approx(row["top1"], abs=0.01)
    assert row["other_answers"] <= 1
    assert row["milliseconds"] > 0
    assert trainings.images_per_second(dense, load_digits()) > 0
    assert row["bytes"] == (tmp_path / "sep" / "model-t1.so").stat().st_size


def test_ways_of_fashion_name_presets_and_networks_that_are_there() -> None:
    for way in bench_train_fashion.WAYS.values():
        job = bench_train_fashion.job_of(way, bench_train_fashion.SETTINGS)
        model = make_model(job.network, classes=10, channels=1, size=28, methods=job.methods, **job.options)
        assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("plan", bench_train_grid.NETWORKS)
def test_cells_of_the_grid_are_networks(plan: str) -> None:
    sizes = set()
    for form in bench_train_grid.FORMS:
        job = bench_train_grid.job_of(plan, form)
        model = make_model(job.network, classes=10, channels=1, size=28, methods=job.methods, **job.options)
        sizes.add(sum(parameter.numel() for parameter in model.parameters()))
    assert len(sizes) == 4


def test_densities_are_asked_of_every_inner_convolution() -> None:
    model = make_model("all_cnn_c", classes=10, channels=1, size=28, width=bench_train_fashion.WIDTH)
    found = compress_(model, bench_train_lookup.methods_of(0.05))
    assert [layer.name for layer in found] == [f"block{number}.conv" for number in range(2, 8)]
    assert {layer.method for layer in found} == {"lookup"}


def test_areas_are_means_over_the_epochs(tmp_path: Path) -> None:
    errors = {"fixed": [[0.4, 0.2], [0.6, 0.4]], "plain": [[0.5, 0.3], [0.5, 0.3]]}
    row = stencils.summary(errors)
    assert row["area"] == pytest.approx({"fixed": 0.4, "plain": 0.4})
    assert row["last_error"] == pytest.approx({"fixed": 0.3, "plain": 0.3})
    assert row["fixed_is_less"] == 1
    stencils.draw({"digits": row}, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 1000


def test_plain_and_fixed_differ_in_their_convolutions_alone() -> None:
    plain, fixed = (stencils.fixed_stencils("digits", on) for on in (False, True))
    assert replace(fixed, methods=None) == plain


def test_the_three_trainings_of_the_mlp_are_a_thousand_steps_of_the_same() -> None:
    jobs = bench_train_xnor.jobs()
    assert {60_000 // job.settings.batch_size * job.settings.epochs for job in jobs.values()} == {1000}
    bits, packed = jobs["bits"], jobs["bits on kernels"]
    assert replace(packed, settings=replace(packed.settings, xnor=False)) == bits
    assert jobs["floats"].methods is None


def test_right_answers_of_a_network_just_compressed_are_counted(tmp_path: Path) -> None:
    settings = Settings(epochs=1, batch_size=600)
    job = Job(data="digits", network="digits_net", options={"width": 8}, settings=settings)
    trainings.trained(job, tmp_path / "dense")
    digits = load_digits()
    share = bench_train_fashion.at_once("sep", tmp_path / "dense", digits)
    assert 0 < share <= 1
    assert share == pytest.approx(round(share * len(digits.test_images)) / len(digits.test_images))
