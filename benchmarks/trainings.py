"""What the tables of trained networks share: trainings that lie in folders, and the measuring of what comes of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.train.compress import penalty
from tvm_fastconv.train.data import Data, as_floats
from tvm_fastconv.train.layers.xnor_products import use_xnor_
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.running import Checkpoint, Job, load_checkpoint, run_job
from tvm_fastconv.train.running.optimizers import make_optimizer

TURNS, CALLS, AT_ONCE, STEPS = 31, 20, 500, 21


def trained(job: Job, folder: Path) -> Checkpoint:
    """The training of ``job`` that lies in ``folder``; what is not there yet is trained."""
    done = folder / "last.ckpt"
    if not done.exists() or len(load_checkpoint(done).history) < job.settings.epochs:
        run_job(
            job,
            out=folder,
            resume=True,
            progress=lambda line: print(f"\r{folder.name}: {line:100}", end="", flush=True),
        )
        print()
    return load_checkpoint(done)


def measure(folder: Path, dense: Path, data: Data, threads: int) -> dict[str, Any]:
    """The training in ``folder``: right answers of PyTorch and of its file, and its time beside the dense one's."""
    model = load_checkpoint(folder / "last.ckpt").model()
    files = [compiled(source, threads) for source in (folder, dense)]
    own, reference = (fc.load(file, threads=threads) for file in files)
    wanted, got, labels = [], [], []
    with torch.inference_mode():
        for images, right in data.test_batches(AT_ONCE):
            wanted.append(model(images).argmax(1).numpy())
            got.append(np.array([int(own(image[None].numpy()).argmax()) for image in images]))
            labels.append(right.numpy())
    answers, files_answers, right = map(np.concatenate, (wanted, got, labels))
    image = as_floats(data.examples(1))
    pairs = [(_seconds(own, image), _seconds(reference, image)) for _ in range(TURNS)]
    return {
        "top1": float((answers == right).mean()),
        "compiled_top1": float((files_answers == right).mean()),
        "other_answers": int((answers != files_answers).sum()),
        "milliseconds": 1e3 * statistics.median(mine for mine, _ in pairs),
        "times_as_fast_as_dense": statistics.median(other / mine for mine, other in pairs),
        "bytes": os.path.getsize(files[0]),
    }


def images_per_second(job: Job, data: Data) -> float:
    """Of training, by the median step: Adam, penalty and augmentation included."""
    torch.manual_seed(0)
    sizes = {"classes": data.classes, "channels": data.channels, "size": data.size}
    model = make_model(job.network, **sizes, **job.options, methods=job.methods)
    use_xnor_(model, job.settings.xnor)
    optimizer, seconds = make_optimizer(model, job.settings), []
    batch = job.settings.batch_size
    batches = data.batches(batch_size=batch, seed=0, augmentation=job.settings.augmentation).epoch(0)
    for _ in range(STEPS):
        start = time.perf_counter()
        images, labels = next(batches)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(images), labels) + penalty(model)).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds)


def compiled(folder: Path, threads: int) -> Path:
    """The file that a training makes, compiled once."""
    file = folder / f"model-t{threads}.so"
    if not file.exists():
        fc.compile(str(folder / "last.ckpt"), threads=threads).save(file)
    return file


def _seconds(call: Callable[[Any], Any], image: np.ndarray) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call(image)
    return (time.perf_counter() - start) / CALLS
