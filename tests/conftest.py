"""What every test shares: the same random numbers every time, and a skip with the reason where something is missing."""

import importlib.util
import os
import random
import shutil

# Test workers share the cores. Threads of BLAS that spin while they wait took twenty times the processor time of one.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import hypothesis
import numpy as np
import pytest
import torch

from tvm_fastconv.runtime.gpu import compute_capability
from tvm_fastconv.targets import NATIVE_CPU

torch.set_num_threads(1)

# The same examples on every machine, however long they take on it.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

NEEDS = {
    "arm": (
        lambda: (
            importlib.util.find_spec("ziglang") and shutil.which("qemu-aarch64") and shutil.which("qemu-arm")
        ),
        "needs ziglang (the extra [cross]) and qemu-aarch64 and qemu-arm (Debian: qemu-user)",
    ),
    "cuda": (lambda: compute_capability() is not None, "needs an NVIDIA GPU"),
}


def pytest_report_header() -> str:
    other = os.environ.get(NATIVE_CPU)
    return f"native is {other}, less what this CPU lacks" if other else "native is this CPU"


@pytest.hookimpl
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Tables of models made while a test file is imported hold the same weights, whichever files came before."""
    if isinstance(collector, pytest.Module):
        _seed_everything()


@pytest.fixture(autouse=True)
def _same_random_numbers_in_any_order() -> None:
    _seed_everything()


def _seed_everything() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (is_there, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
