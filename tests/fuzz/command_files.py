"""The files that random command lines name: a small model in every form, arrays, methods, and damaged ones."""

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NETWORK = r"""
import sys
import torch
from torch import nn

torch.manual_seed(0)

class Odd(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.act = forward
    def forward(self, *inputs):
        return self.act(*inputs)

class Stop(BaseException):
    pass

def raises(error):
    raise error

def small():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)).eval()

def binary():
    return nn.Sequential(nn.Conv2d(1, 8, 3), Odd(torch.sign), nn.Conv2d(8, 4, 3)).eval()

def two():
    return Odd(lambda x, y: (x + y, x - y)).eval()

quits = lambda: sys.exit(3)
stops = lambda: raises(Stop("stop"))
fails = lambda: raises(ValueError("no\nweights\x1b[2J"))
exits_later = lambda: Odd(lambda x: sys.exit(0))
volume = lambda: nn.Sequential(*[nn.Conv3d(1, 1, 3) for _ in range(4)])
branches = lambda: Odd(lambda x: x if x.sum() > 0 else -x)
sorts = lambda: Odd(lambda x: x.sort()[0])
fourier = lambda: Odd(lambda x: torch.fft.fft(x))
text = lambda: "model"
number = 3
"""

Data = bytes
"""What a file holds."""


@dataclass(frozen=True)
class Damaged:
    """A copy of another file: of its first share, with one byte changed (``place`` and ``mask``), or as it is."""

    source: str
    share: float = 1.0
    place: float = 0.0
    mask: int = 0

    def of(self, data: bytes) -> bytes:
        """Return the copy's content."""
        kept = bytearray(data[: int(len(data) * self.share)])
        if kept:
            kept[int(len(kept) * self.place)] ^= self.mask
        return bytes(kept)


def make_base(folder: Path) -> None:
    """Write what every case finds in its folder."""
    import torch

    import tvm_fastconv as fc
    from tvm_fastconv.frontend.sources import resolve
    from tvm_fastconv.machine_files import target_and_machine, write_machine

    (folder / "net.py").write_text(NETWORK)
    module, x = resolve(f"{folder / 'net.py'}:small"), torch.randn(1, 1, 8, 8)
    fc.compile(module, x, target="x86_64-linux-gnu").save(folder / "model.so")
    torch.export.save(torch.export.export(module, (x,)), folder / "model.pt2")
    torch.onnx.export(module, (x,), folder / "model.onnx", dynamo=False, input_names=["x"])
    np.save(folder / "x.npy", x.numpy())
    np.savez(folder / "x.npz", input=x.numpy())
    (folder / "methods.toml").write_text('"0" = "dense"\n')
    write_machine(folder / "row.json", *target_and_machine("x86_64-linux-gnu -mcpu=x86-64-v2"))
    (folder / "text").write_text("hello")
    (folder / "empty").touch()
    (folder / "folder").mkdir()


BASE = (
    "net.py",
    "model.so",
    "model.pt2",
    "model.onnx",
    "x.npy",
    "x.npz",
    "methods.toml",
    "row.json",
    "text",
    "empty",
    "folder",
)
"""Names of what `make_base` writes."""

_SHAPES = [(1, 1, 8, 8)] * 4 + [(1, 1, 8, 9), (2, 1, 8, 8), (8, 8), (), (0, 1, 8, 8), (1, 1, 0, 8), (1,) * 20]
_DTYPES = [
    *["float32"] * 5, "float64", "float16", ">f4", "int8", "bool", "complex64", "U3", "S4", "V8", "M8[s]", "f4,i2", "O",
]  # fmt: skip
_NAMES = ["input", "input", "x", "", "a/b", "../up", "input\0", "in\nput", "größe"]
_KEYS = ["0", "3", "*", "0*", "[0]", "[", "no.such", "", "é", "?"]
_METHODS = ["dense", "bitserial", "lookup", "cp", "tucker", "spatial", "separable", "fixed", "magic", ""]
_PARAMETERS = [
    "weight_bits", "activation_bits", "dictionary_size", "density", "error", "rank", "ratio", "ranks", "multiplier",
    "speed", "__class__", "method",
]  # fmt: skip
_FIELDS = [
    "lanes", "registers", "kind", "name", "load_cost", "l1_bytes", "l2_bytes", "l2_bandwidth", "sums_in_flight",
    "wake_cycles", "call_cycles", "counts_words", "fma_per_cycle", "__class__",
]  # fmt: skip
_VALUES = [
    "1", "2", "0", "-1", "99999999999999999999", "0.5", "1.0", "1e308", "nan", "inf", "-inf", "true", '"x"', "[1, 2]",
    "[2, 2]", "[]", "[[1]]", "{ a = 1 }", "1979-05-27", "'''\n'''", "0x10",
]  # fmt: skip


def array(rng: random.Random) -> bytes:
    """Return a ``.npy`` file: mostly of the shape or the dtype that the model takes."""
    shape, dtype = rng.choice(_SHAPES), rng.choice(_DTYPES)
    values = np.zeros(shape, dtype, order=rng.choice("CF"))
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    data = file.getvalue()
    if rng.random() < 0.2:
        size = rng.choice(
            [b"(1000000000000,)", b"(-1, 1, 8, 8)   ", b"(2**9, 1)", b"(" * 30, b"(True, 1, 8, 8)"]
        )
        start = data.index(b"(")
        data = data[:start] + size + data[start + len(size) :]
    return data


def archive(rng: random.Random) -> bytes:
    """Return a ``.npz`` file."""
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as members:
        for name in dict.fromkeys(rng.choices(_NAMES, k=rng.randrange(3))):
            members.writestr(name + rng.choice([".npy", ".npy", ".txt"]), array(rng))
    return file.getvalue()


def methods(rng: random.Random) -> bytes:
    """Return a ``.toml`` file of methods."""
    lines = []
    for key in dict.fromkeys(rng.choices(_KEYS, k=rng.randrange(1, 4))):
        name = rng.choice(_METHODS)
        given = dict.fromkeys(rng.choices(_PARAMETERS, k=rng.choice([0, 1, 1, 2])))
        table = ", ".join([f'method = "{name}"', *(f"{name} = {rng.choice(_VALUES)}" for name in given)])
        value = rng.choice([f'"{name}"', f"{{ {table} }}", f"{{ {table} }}", rng.choice(_VALUES)])
        lines.append(f'"{key}" = {value}')
    text = "\n".join(lines).encode()
    return text if rng.random() < 0.9 else bytes(rng.choices(text + b"\xff\0[]{}=\n", k=len(text)))


def machine(rng: random.Random) -> bytes:
    """Return a ``.json`` file of a machine."""
    row = {"lanes": 4, "registers": 16}
    for field in rng.choices(_FIELDS, k=rng.choice([0, 1, 1, 3])):
        row[field] = rng.choice(
            [*[8, 0.5, 1000, 1e-9, 1e9] * 2, 0, -1, 10**400, float("inf"), True, "4", None, []]
        )
    found = {"target": rng.choice(["x86_64-linux-gnu"] * 5 + ["vax", "", 3, "row.json"]), "machine": row}
    for key in rng.sample(sorted(found), rng.choice([0, 0, 0, 1])):
        found[key] = rng.choice([None, [], {}, "machine"])
    text = json.dumps(found).encode()
    return text if rng.random() < 0.9 else bytes(rng.choices(text, k=len(text)))


MADE: dict[str, Callable[[random.Random], bytes]] = {
    "npy": array,
    "npz": archive,
    "toml": methods,
    "json": machine,
}
"""Files that are made for one case, by suffix."""
