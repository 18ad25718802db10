"""Fashion-MNIST by every method: accuracy trained and compiled, milliseconds and bytes beside the dense network's.

``python -m benchmarks.bench_train_fashion --folder DIR`` trains All-CNN-C, a third as wide and with a stride of 2 in
its first layer, from first weights by every method; then compresses the dense one and trains it on for a tenth of the
epochs, some of them for as many. Each training lies in a folder of ``DIR``: started again, what is there is not trained
again, so that with ``--only-train`` several processes can share the work. Compiled files classify all 10 000 test
images. The rows are in ``results/train_fashion.json``, written after every method.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tvm_fastconv.train.compress import compress_
from tvm_fastconv.train.data import ImageData, as_floats, load_data
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.models import preset_methods
from tvm_fastconv.train.running import Job, Settings, load_checkpoint
from tvm_fastconv.train.running.evaluate import BATCH, scores
from tvm_fastconv.train.running.job import CALIBRATION

from . import options, results
from .trainings import images_per_second, measure, trained

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
    from_dense: bool = False
    """Whether it is trained from the dense network for as many epochs, too."""


WAYS = {
    "dense": Way("dense"),
    "lookup fast": Way("lcnn-fast", fine_rate=4e-3),
    "lookup accurate": Way("lcnn-accurate"),
    "binary": Way("binary", activation="none", rate=1e-2, fine_rate=1e-2),
    "wide binary": Way("binary", WIDE, "none", rate=1e-2),
    "2-bit": Way("2-bit", from_dense=True),
    "fac": Way("fac"),
    "sep": Way("sep", rate=1e-2, fine_rate=1e-2, from_dense=True),
    "cp": Way("cp"),
    "tucker": Way("tucker", from_dense=True),
    "fixed": Way("fixed"),
}


def job_of(way: Way, settings: Settings) -> Job:
    """From first weights."""
    network = {"width": way.width, "activation": way.activation, "stem_stride": 2}
    settings = replace(settings, xnor=way.preset == "binary")
    return Job(data=DATA, network="all_cnn_c", options=network, methods=way.preset, settings=settings)


def at_once(preset: str, dense: Path, data: ImageData) -> float:
    """Right answers of the dense network compressed, before it is trained on."""
    model = load_checkpoint(dense / "last.ckpt").model()
    compress_(
        model, preset_methods(preset, model), torch.from_numpy(as_floats(data.train_images[:CALIBRATION]))
    )
    return scores(model, data.test_batches(BATCH)).top1


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
        first = job_of(way, replace(SETTINGS, learning_rate=way.rate))
        history = trained(first, folder).history
        others = {}
        if way.preset != "dense" and way.width == WIDTH:
            fine = job_of(way, replace(FINE, learning_rate=way.fine_rate))
            others["fine_tuned"] = replace(fine, compress_from=dense / "last.ckpt")
        if way.from_dense:
            others["from_dense"] = replace(first, compress_from=dense / "last.ckpt")
        for kind, job in others.items():
            trained(job, folder.with_name(f"{folder.name}_{kind}"))
        if given.only_train:
            continue
        row: dict[str, Any] = measure(folder, dense, data, settings.threads)
        row["images_per_second"] = images_per_second(first, data)
        row["density"] = {name: value for name, value in history[-1].items() if name.startswith("density/")}
        for kind in others:
            row[kind] = measure(folder.with_name(f"{folder.name}_{kind}"), dense, data, settings.threads)
        if others:
            row["fine_tuned"]["top1_before"] = at_once(way.preset, dense, data)
        rows[name] = row
        print(name, row, flush=True)
        if not given.no_write:
            results.write_results(
                options.results_name("train_fashion", settings), settings, [], {"ways": rows}
            )


if __name__ == "__main__":
    main()
