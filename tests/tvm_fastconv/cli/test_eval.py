import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_accuracy_on_the_digits(fastconv: Callable, model: Path) -> None:
    pytest.importorskip("sklearn")
    facts = json.loads(fastconv("eval", model, "--data", "digits", "--json").out)
    assert facts["images"] == 450
    assert facts["accuracy"] == pytest.approx(facts["correct"] / 450, abs=1e-4)


def test_unknown_data(fastconv: Callable, model: Path) -> None:
    done = fastconv("eval", model, "--data", "imagenet")
    assert (done.code, done.out) == (2, "")
    assert "error: data set 'imagenet' is not known; known are digits, mnist, " in done.err
