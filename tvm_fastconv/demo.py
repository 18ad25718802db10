"""The whole path on real handwriting: train digit classifiers, compile them, classify the held-out digits."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compiler import compile
from .measure.bench import EngineTime, bench
from .measure.evaluate import evaluate
from .runtime.compiled_model import load
from .temporary import temporary_folder

if TYPE_CHECKING:
    from torch import nn

    from tvm_fastconv.train.data import ImageData

RIVALS = ("torch", "onnxruntime", "openvino")
# Such layers are too small to share out: training takes 4 s with one thread, and up to 26 s with two on busy cores.
THREADS = 1
_EPOCHS = 15
_BATCH = 64
_SEED = 0

NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {},
    "bitserial": {"methods": "binary", "width": 64, "activation": "none"},
    "lookup": {"methods": "lcnn-fast", "width": 64},
    "spatial": {"methods": "fac"},
    "cp": {"methods": "cp"},
    "separable": {"methods": "sep"},
    "fixed": {"methods": "fixed"},
}
"""How the classifier's inner convolutions are made, to its options."""


@dataclass(frozen=True, kw_only=True)
class DemoRow:
    """The digit classifier compiled one way.

    Parameters
    ----------
    method
        How its convolutions were compiled.
    accuracy_torch, accuracy_compiled
        Fraction of the held-out digits that PyTorch and the ``.so`` classify rightly.
    times
        One image, one thread: ours first, then each rival.
    """

    method: str
    accuracy_torch: float
    accuracy_compiled: float
    times: tuple[EngineTime, ...]


def run_demo(
    *, save_to: str | os.PathLike[str] | None = None, progress: Callable[[str], None] = lambda text: None
) -> list[DemoRow]:
    """Train, compile, evaluate and measure, one way after the other; about two minutes on two cores.

    Parameters
    ----------
    save_to
        Where to keep the compiled dense classifier; by default it is deleted at the end.
    progress
        Called with one line whenever a new stage starts.

    Raises
    ------
    FastconvError
        scikit-learn is not installed, or ``save_to`` cannot be written.
    """
    from tvm_fastconv.train.data import load_data
    from tvm_fastconv.train.running.evaluate import BATCH, scores

    digits, rows = load_data("digits"), []
    with _torch_threads(THREADS):
        for method in NETWORKS:
            model = trained_model(method, digits, _behind(method, progress))
            accuracy_torch = scores(model, digits.test_batches(BATCH)).top1
            kept = save_to if method == "dense" else None
            rows.append(_compiled_row(method, model, digits, accuracy_torch, kept, progress))
    return rows


def _behind(method: str, progress: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: progress(f"{method}: {text}")


def trained_model(
    method: str, digits: "ImageData", progress: Callable[[str], None] = lambda text: None
) -> "nn.Module":
    """Train the network ``NETWORKS[method]`` on ``digits``: the same weights every time."""
    import torch

    from tvm_fastconv.train.models import make_model
    from tvm_fastconv.train.running import Settings, train

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS[method])
    settings = Settings(epochs=_EPOCHS, batch_size=_BATCH, seed=_SEED)
    return train(model, digits, settings, progress=lambda text: progress(f"training: {text}")).model


def _compiled_row(
    method: str,
    model: "nn.Module",
    digits: "ImageData",
    accuracy_torch: float,
    save_to: str | os.PathLike[str] | None,
    progress: Callable[[str], None],
) -> DemoRow:
    image = digits.test_images[:1]
    progress(f"{method}: compiling")
    compiled = compile(model, (image,))
    with temporary_folder() as folder:
        path = Path(save_to) if save_to is not None else Path(folder, "digits.so")
        compiled.save(path)
        loaded = load(path, threads=THREADS)
        progress(f"{method}: classifying the held-out digits")
        evaluation = evaluate(loaded, "digits")
        progress(f"{method}: measuring against {', '.join(RIVALS)}")
        times = bench(loaded, against=RIVALS, module=model, inputs=(image,), threads=THREADS)
    return DemoRow(
        method=method,
        accuracy_torch=accuracy_torch,
        accuracy_compiled=evaluation.accuracy,
        times=tuple(times),
    )


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
