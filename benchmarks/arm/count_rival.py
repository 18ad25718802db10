"""One inference of another engine between two marks that count_blocks.c knows: in Python for ARM, under the emulator.

``count_rival.py ENGINE FOLDER`` reads ``x.npy``, ``y.npy`` (PyTorch's answer) and the network from the folder, and
writes ``error.txt``: the largest difference to that answer, relative to its largest value.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def ncnn(folder: Path, x: np.ndarray, y: np.ndarray, *off: str) -> Callable[[], Any]:
    """fp16, bf16, int8 and what is named in ``off`` off; the rest as by default: packing, Winograd, SGEMM on."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for name in dir(net.opt):
        if any(kind in name for kind in ("fp16", "bf16", "int8", *off)):
            setattr(net.opt, name, False)
    if net.load_param(str(folder / "net.ncnn.param")) or net.load_model(str(folder / "net.ncnn.bin")):
        sys.exit("ncnn does not know a layer of this network")
    image = ncnn.Mat(x[0])

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", image)
        return extractor.extract("out0")[1]

    return run


def onnxruntime(folder: Path, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """All optimisations, as by default; input and output are bound once."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(folder / "net.onnx", options, providers=["CPUExecutionProvider"])
    binding, answer = session.io_binding(), np.empty_like(y)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output(session.get_outputs()[0].name, ort.OrtValue.ortvalue_from_numpy(answer))

    def run() -> Any:
        session.run_with_iobinding(binding)
        return answer

    return run


def ncnn_without_winograd(folder: Path, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Sums of signs stay whole numbers."""
    return ncnn(folder, x, y, "winograd")


ENGINES = {function.__name__: function for function in (ncnn, ncnn_without_winograd, onnxruntime)}


def main() -> None:
    """Command line."""
    engine, folder = ENGINES[sys.argv[1]], Path(sys.argv[2])
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    run = engine(folder, x, y)
    run()  # warms the emulator up
    os.getppid()
    answer = run()
    os.getppid()
    error = np.abs(np.array(answer).reshape(y.shape) - y).max() / np.abs(y).max()
    (folder / "error.txt").write_text(f"{error}\n")


if __name__ == "__main__":
    main()
