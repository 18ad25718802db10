"""Fashion-MNIST by every method: accuracy trained and compiled, milliseconds and bytes beside the dense network's.

``python -m benchmarks.bench_train_fashion --folder DIR`` trains All-CNN-C, a third as wide and with a stride of 2 in
its first layer, from first weights by every method; then compresses the dense one and trains it on for a tenth of the
epochs. Each training lies in a folder of ``DIR``: started again, what is there is not trained again, so that with
``--only-train`` several processes can share the work. Compiled files classify all 10 000 test images. The rows are in
``results/train_fashion.json``, written after every method.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tvm_fastconv.train.compress import compress_
from tvm_fastconv.train.data import ImageData, as_floats, load_data
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.models import preset_methods
from tvm_fastconv.train.running import Job, Settings, load_checkpoint, run_job
from tvm_fastconv.train.running.evaluate import BATCH, scores
from tvm_fastconv.train.running.job import CALIBRATION

from . import options, results

DATA = "fashion-mnist"
WIDTH, WIDE = 1 / 3, 2 / 3
"""Of All-CNN-C, and of the wider binary network."""
SETTINGS = Settings(
    epochs=10,
    batch_size=128,
    learning_rate=4e-3,
    weight_decay=1e-4,
    warmup=0.5,
    augmentation=Augmentation(flip=True),
)
FINE = replace(SETTINGS, epochs=1)
"""A tenth of the epochs."""
TURNS, CALLS = 31, 20


@dataclass(frozen=True)
class Way:
    """A network: its preset, options that differ from the dense one's, and learning rates.

    The rates, from first weights and from the dense network, are the best of 0.001, 0.004 and 0.01 in the first epochs.
    """

    preset: str
    width: float = WIDTH
    activation: str = "relu"
    rate: float = 4e-3
    fine_rate: float = 1e-3


WAYS = {
    "dense": Way("dense"),
    "lookup fast": Way("lcnn-fast", fine_rate=4e-3),
    "lookup accurate": Way("lcnn-accurate"),
    "binary": Way("binary", activation="none", rate=1e-2, fine_rate=1e-2),
    "wide binary": Way("binary", WIDE, "none", rate=1e-2),
    "2-bit": Way("2-bit"),
    "fac": Way("fac"),
    "sep": Way("sep", rate=1e-2, fine_rate=1e-2),
    "cp": Way("cp"),
    "tucker": Way("tucker"),
    "fixed": Way("fixed"),
}


def job_of(way: Way, settings: Settings) -> Job:
    """From first weights."""
    network = {"width": way.width, "activation": way.activation, "stem_stride": 2}
    return Job(data=DATA, network="all_cnn_c", options=network, methods=way.preset, settings=settings)


def trained(job: Job, folder: Path) -> float:
    """Train it unless it is there; returns the seconds that this took."""
    start = time.monotonic()
    done = folder / "last.ckpt"
    if not done.exists() or len(load_checkpoint(done).history) < job.settings.epochs:
        run_job(
            job, out=folder, resume=True, progress=lambda text: print(f"\r{folder.name}: {text:100}", end="")
        )
        print()
    return time.monotonic() - start


def at_once(preset: str, dense: Path, data: ImageData) -> float:
    """Right answers of the dense network compressed, before it is trained on."""
    model = load_checkpoint(dense / "last.ckpt").model()
    compress_(
        model, preset_methods(preset, model), torch.from_numpy(as_floats(data.train_images[:CALIBRATION]))
    )
    return scores(model, data.test_batches(BATCH)).top1


def measure(folder: Path, dense: Path, data: ImageData, threads: int) -> dict[str, Any]:
    """The last checkpoint in ``folder``: right answers of PyTorch and of the file, its time against the dense one's."""
    import tvm_fastconv as fc

    checkpoint = load_checkpoint(folder / "last.ckpt")
    model = checkpoint.model()
    files = [_compiled(source, threads) for source in (folder, dense)]
    own, reference = (fc.load(file, threads=threads) for file in files)
    images = as_floats(data.test_images)
    with torch.inference_mode():
        wanted = np.concatenate(
            [model(torch.from_numpy(part)).argmax(1).numpy() for part in np.split(images, 20)]
        )
    got = np.array([int(own(image[None]).argmax()) for image in images])
    pairs = [(_seconds(own, images[:1]), _seconds(reference, images[:1])) for _ in range(TURNS)]
    return {
        "torch_top1": float((wanted == data.test_labels).mean()),
        "compiled_top1": float((got == data.test_labels).mean()),
        "other_answers": int((got != wanted).sum()),
        "milliseconds": 1e3 * statistics.median(mine for mine, _ in pairs),
        "times_as_fast_as_dense": statistics.median(other / mine for mine, other in pairs),
        "bytes": os.path.getsize(files[0]),
    }


def _compiled(folder: Path, threads: int) -> Path:
    import tvm_fastconv as fc

    file = folder / "model.so"
    if not file.exists():
        fc.compile(str(folder / "last.ckpt"), threads=threads).save(file)
    return file


def _seconds(call: Callable[[Any], Any], image: np.ndarray) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call(image)
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="for the trainings")
    parser.add_argument("--ways", default=",".join(WAYS), help="names, with commas")
    parser.add_argument("--only-train", action="store_true", help="and measure nothing")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    data, rows = load_data(DATA), {}
    dense = given.folder / "dense"
    for name in given.ways.split(","):
        way, folder = WAYS[name], given.folder / name.replace(" ", "_")
        tuned = folder.with_name(f"{folder.name}_from_dense")
        row: dict[str, Any] = {
            "train_seconds": trained(job_of(way, replace(SETTINGS, learning_rate=way.rate)), folder)
        }
        from_dense = way.preset != "dense" and way.width == WIDTH
        if from_dense:
            fine = replace(FINE, learning_rate=way.fine_rate)
            trained(replace(job_of(way, fine), compress_from=dense / "last.ckpt"), tuned)
        if given.only_train:
            continue
        row |= measure(folder, dense, data, settings.threads)
        if from_dense:
            before = {"top1_before": at_once(way.preset, dense, data)}
            row["from_dense"] = before | measure(tuned, dense, data, settings.threads)
        rows[name] = row
        print(name, row, flush=True)
        if not given.no_write:
            results.write_results(
                options.results_name("train_fashion", settings), settings, [], {"ways": rows}
            )


if __name__ == "__main__":
    main()
