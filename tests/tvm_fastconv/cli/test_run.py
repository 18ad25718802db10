import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tvm_fastconv


def test_arrays_through_the_file(fastconv: Callable, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = fastconv(
        "run", model, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--threads", 1, "--json"
    )
    assert done.code == 0
    assert list(json.loads(done.out).values())[1] == [1, 10]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), tvm_fastconv.load(model)(x))


def test_check_runs_the_bundled_input(fastconv: Callable, model: Path) -> None:
    done = fastconv("run", model, "--check", "--json")
    assert done.code == 0
    assert 0 <= json.loads(done.out)["largest_relative_error"] < 2e-5  # the bound that compile verifies


@pytest.mark.parametrize(
    "arguments", [[], ["-i", "x.npy"], ["-o", "y.npy"], ["--check", "-i", "x.npy", "-o", "y.npy"]]
)
def test_what_to_do_must_be_said(arguments: list[str], fastconv: Callable, model: Path) -> None:
    done = fastconv("run", model, *arguments)
    assert (done.code, done.out) == (2, "")
    assert "--check" in done.err


@pytest.mark.parametrize(
    ("x", "output", "message"),
    [
        (np.zeros((1, 1, 8, 9), np.float32), "y.npy", "has shape (1, 1, 8, 9)"),
        (np.zeros((1, 1, 8, 8), np.float64), "y.npy", "has dtype float64"),
        (np.zeros((1, 1, 8, 8), np.float32), "y.csv", "cannot write 1 outputs to"),
        (np.zeros((1, 1, 8, 8), np.float32), "no/y.npy", "cannot write"),
    ],
)
def test_bad_arrays(
    x: np.ndarray, output: str, message: str, fastconv: Callable, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", x)
    done = fastconv("run", model, "-i", tmp_path / "x.npy", "-o", tmp_path / output)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_file_that_is_no_model(fastconv: Callable, tmp_path: Path) -> None:
    (tmp_path / "m.so").write_text("hello")
    assert fastconv("run", tmp_path / "m.so", "--check").code == 2
