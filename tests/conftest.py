"""What every test shares: a test marked by what it needs is skipped, with the reason, where that is missing."""

import shutil

import pytest

NEEDS = {
    "arm": (
        lambda: shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64-static"),
        "needs aarch64-linux-gnu-gcc and qemu-aarch64-static",
    ),
    "cuda": (lambda: shutil.which("nvidia-smi"), "needs a CUDA device"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (is_there, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
