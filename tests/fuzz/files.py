"""Damaged and forged model files. Each is refused by a `FastconvError`, or read and right; none runs code."""

import base64
import dataclasses
import functools
import io
import os
import pickle
import random
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

import tvm_fastconv as fc
from tvm_fastconv.errors import FastconvError
from tvm_fastconv.frontend import import_model

from .damage import Canary, damaged_archive, damaged_bytes
from .damage_onnx import damaged_model
from .generator import Generator

_SHARES = (50, 42, 8)
"""Of the kinds: 1900, 330 and 11 of them are read in a second."""


@dataclass(frozen=True)
class Damaged:
    """One file: what it was, and the number of each thing that is done to it."""

    suffix: str
    seeds: tuple[int, ...]
    compiled: bool
    """Whether it is compiled too, if it can be read."""


class Files(Generator):
    """``.pt2``, ``.onnx`` and compiled ``.so`` files with bytes, members and fields changed, and code planted."""

    name = "files"
    parts = 25

    def case(self, rng: random.Random) -> tuple[Damaged, ...]:
        return tuple(
            Damaged(
                suffix=rng.choices((".so", ".onnx", ".pt2"), _SHARES)[0],
                seeds=tuple(rng.randrange(2**32) for _ in range(rng.choice((1, 1, 1, 2, 3)))),
                compiled=rng.random() < 0.02,
            )
            for _ in range(self.parts)
        )

    def run(self, case: tuple[Damaged, ...]) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            for number, file in enumerate(case):
                wrong = _wrong(file, Path(folder) / f"m{number}{file.suffix}", Path(folder) / "canary")
                if wrong:
                    return f"{file}: {wrong}"
        return None

    def smaller(self, case: tuple[Damaged, ...]) -> Iterator[tuple[Damaged, ...]]:
        if len(case) > 1:
            yield from ((file,) for file in case)
            return
        (file,) = case
        for left_out in range(len(file.seeds) if len(file.seeds) > 1 else 0):
            seeds = file.seeds[:left_out] + file.seeds[left_out + 1 :]
            yield (dataclasses.replace(file, seeds=seeds),)

    def code(self, case: tuple[Damaged, ...]) -> str:
        data = base64.b85encode(zlib.compress(_bytes(case[0], "canary"))).decode()
        call = "load" if case[0].suffix == ".so" else "compile"
        return "\n".join(
            (
                "import base64, zlib",
                "from pathlib import Path",
                "import tvm_fastconv as fc",
                f"data = {data!r}",
                f'Path("m{case[0].suffix}").write_bytes(zlib.decompress(base64.b85decode(data)))',
                f'print(fc.{call}("m{case[0].suffix}"), Path("canary").exists())',
            )
        )


def _wrong(file: Damaged, path: Path, canary: Path) -> str | None:
    data = _bytes(file, str(canary))
    path.write_bytes(data)
    try:
        _READERS[file.suffix](path, file.compiled)
    except FastconvError as error:
        if "This is a bug" in str(error):
            return str(error)
        if not str(error).strip() or len(str(error)) > 20_000:
            return f"a message of {len(str(error))} characters"
    else:
        if file.suffix == ".so" and data != original(".so"):
            return "a damaged file was loaded"
    return "code was run" if canary.exists() else None


def _bytes(file: Damaged, canary: str) -> bytes:
    """The file with everything done to it."""
    data = original(file.suffix)
    for seed in file.seeds:
        rng = random.Random(seed)
        try:
            data = _DAMAGES[file.suffix](data, rng, canary)
        except Exception:
            data = damaged_bytes(data, rng)  # it is no archive, or no protocol buffer, any more
    return data


def _read_compiled(path: Path, _compiled: bool) -> None:
    model = fc.load(path, threads=1)
    if not model.check() <= 1e-5:  # float32 sums in another order
        raise AssertionError("a model that was loaded is wrong")


def _read_source(path: Path, compiled: bool) -> None:
    fc.compile(path) if compiled else import_model(path)


_READERS: dict[str, Callable[[Path, bool], None]] = {
    ".so": _read_compiled,
    ".onnx": _read_source,
    ".pt2": _read_source,
}


def _damaged_pt2(data: bytes, rng: random.Random, canary: str) -> bytes:
    return damaged_bytes(data, rng) if rng.random() < 0.1 else damaged_archive(data, rng, canary, _planted)


def _damaged_onnx(data: bytes, rng: random.Random, canary: str) -> bytes:
    return damaged_bytes(data, rng) if rng.random() < 0.3 else damaged_model(data, rng)


_DAMAGES: dict[str, Callable[[bytes, random.Random, str], bytes]] = {
    ".so": lambda data, rng, canary: damaged_bytes(data, rng),
    ".onnx": _damaged_onnx,
    ".pt2": _damaged_pt2,
}


def _planted(canary: str) -> bytes:
    """A pickle, as PyTorch packs it or bare."""
    if os.path.basename(canary) and random.Random(canary).random() < 0.2:
        return pickle.dumps(Canary(canary), 2)
    buffer = io.BytesIO()
    torch.save(Canary(canary), buffer)
    return buffer.getvalue()


@functools.cache
def original(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        {".so": _write_compiled, ".onnx": _write_onnx, ".pt2": _write_program}[suffix](path)
        return path.read_bytes()


class _Net(nn.Module):
    """A few layers, a size that is computed, a constant, a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        y = functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2) + torch.tensor([1.5])
        return self.linear(y.mean((2, 3))).view(x.shape[0] * 5), {"planes": y}


def _write_program(path: Path) -> None:
    torch.manual_seed(0)
    batch = torch.export.Dim("n", min=1, max=64)
    shapes = ({0: batch},)
    torch.export.save(
        torch.export.export(_Net().eval(), (torch.randn(2, 3, 6, 6),), dynamic_shapes=shapes), path
    )


def _write_compiled(path: Path) -> None:
    torch.manual_seed(0)
    fc.compile(_Net().eval(), torch.randn(1, 3, 6, 6)).save(path)


def _write_onnx(path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": (4, 3, 3, 3), "b": (4,), "scale": (4,), "m": (4, 5), "two": (1,)}
    tensors = [numpy_helper.from_array(rng.random(shape, "float32"), name) for name, shape in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "b", "b", "scale"], ["n"], epsilon=1e-5),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["t"]),
        helper.make_node("Mul", ["t", "two"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", ["n", 3, 6, 6]), ("y", ["n", 5]))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
