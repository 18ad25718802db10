"""Single wrong changes, planted into the constants that compiled functions read: every one is refused, and named."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

import tvm_fastconv as fc
from tvm_fastconv import compiler
from tvm_fastconv.artifact.artifact import SEAL_SIZE, WEIGHTS_SECTION, read_artifact, seal
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.verify import verify
from tvm_fastconv.verify.trace import trace

from .networks import NETWORKS, example, network

COUNT = 12  # mutations of each network


def _off(array: np.ndarray, rng: np.random.Generator) -> None:
    """One number of a bias, a weight or a threshold: of bits one, of integers by 1, of floats by a tenth of all."""
    at = tuple(rng.integers(n) for n in array.shape)
    if array.dtype == np.uint32:
        array[at] ^= np.uint32(1) << np.uint32(rng.integers(32))
    elif array.dtype.kind == "f":
        array[at] += np.float32(0.1 * np.abs(array[np.isfinite(array)]).max())
    else:
        array[at] += 1


def _swapped(array: np.ndarray, rng: np.random.Generator) -> None:
    """Two channels in each other's place."""
    one, other = rng.choice(array.shape[-1], 2, replace=False) if array.shape[-1] > 1 else (0, 0)
    array[..., [one, other]] = array[..., [other, one]]


def _scaled(array: np.ndarray, _rng: np.random.Generator) -> None:
    """All of them by a hundredth too large."""
    if array.dtype.kind == "f":
        array *= np.float32(1.01)


def _share(array: np.ndarray, rng: np.random.Generator) -> None:
    """One number by a tenth of itself: in a small filter, far below the largest of all."""
    at = tuple(rng.integers(n) for n in array.shape)
    if array.dtype.kind == "f":
        array[at] *= np.float32(1.1)


def _row(array: np.ndarray, rng: np.random.Generator) -> None:
    """One row of a table, as of what is outside the plane."""
    row = array.reshape(-1, array.shape[-1])[rng.integers(array.size // array.shape[-1])]
    if array.dtype.kind != "u":
        row += array.dtype.type(2)


CHANGES = (_off, _swapped, _scaled, _share, _row)


Constant = tuple[set[str], int, np.dtype, tuple[int, ...]]
"""What reads it, its offset in the file, its dtype and shape."""


@dataclass
class Compiled:
    """A file and what it was verified with."""

    path: Path
    source: Any
    examples: Any
    calls: Any
    constants: list[Constant]

    def verify(self, path: Path) -> Any:
        model = CompiledModel(read_artifact(path))
        run = partial(trace, model, calls=self.calls)
        return verify(model.manifest.outputs, run, self.source, self.examples, self.calls)

    def results(self, path: Path) -> list[bytes]:
        ran = trace(CompiledModel(read_artifact(path)), self.examples, self.calls)
        return [array.tobytes() for array in (*ran.results.values(), *ran.outputs)]


@pytest.fixture(scope="module", params=NETWORKS)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    seen: dict[str, Any] = {}

    def keep_module(mod: tvm.IRModule, *args: Any, **how: Any) -> Any:
        seen["mod"] = mod
        return build(mod, *args, **how)

    def keep_verified(specs: Any, run: Any, source: Any, examples: Any, calls: Any) -> Any:
        seen.update(source=source, examples=examples, calls=calls)
        return verify(specs, run, source, examples, calls)

    build = compiler.build_artifact
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "build_artifact", keep_module)
        patch.setattr(compiler, "verify_compiled", keep_verified)
        model = fc.compile(network(request.param), example(), target="native")
    path = tmp_path_factory.mktemp("mutated") / "model.so"
    model.save(path)
    mod = seen.pop("mod")
    return Compiled(path, **seen, constants=list(_constants(path, mod["main"], seen["calls"])))


def _constants(path: Path, main: Any, calls: Any) -> Iterator[Constant]:
    artifact = read_artifact(path)
    section, data = artifact.elf.sections[WEIGHTS_SECTION], path.read_bytes()
    stored = {
        data[section.offset + w.offset :][: w.nbytes]: section.offset + w.offset
        for w in artifact.manifest.weights
    }
    bindings = [binding.value for block in main.body.blocks for binding in block.bindings]
    tir = [v for v in bindings if getattr(v, "op", None) == tvm.ir.Op.get("relax.call_tir")]
    readers: dict[int, set[str]] = {}  # equal constants are stored once
    for value, call in zip(tir, calls, strict=True):
        for arg in value.args[1].fields:
            if isinstance(arg, tvm.ir.GenericConst) and arg.value.shape:
                array = arg.value.numpy()
                offset = stored[array.tobytes()]
                names = readers.setdefault(offset, set())
                names |= _names(calls, call)
                yield names, offset, array.dtype, array.shape


def _names(calls: Any, call: Any) -> set[str]:
    """The call's operator and layer; for what only packs or turns, the layer that it reads."""
    names = {call.layers[-1]["name"] if call.layers else call.function}
    while not any("method" in fields for fields in call.layers) and call.reads:
        call = calls[call.reads[0]]
        names.add(call.layers[-1]["name"] if call.layers else call.function)
    return names


def test_the_network_itself_is_right(compiled: Compiled) -> None:
    assert max(compiled.verify(compiled.path).errors.values()) < 2e-5  # compare.TOLERANCE


@pytest.mark.parametrize("number", range(COUNT))
def test_every_wrong_change_is_refused_and_named(compiled: Compiled, number: int, tmp_path: Path) -> None:
    right, before = compiled.path.read_bytes(), compiled.results(compiled.path)
    rng = np.random.default_rng(number)
    for attempt in range(50):
        readers, offset, dtype, shape = compiled.constants[rng.integers(len(compiled.constants))]
        change, path = CHANGES[(number + attempt) % len(CHANGES)], tmp_path / f"{attempt}.so"
        array = np.frombuffer(right, dtype, int(np.prod(shape)), offset).reshape(shape).copy()
        change(array, rng)
        path.write_bytes(right[:offset] + array.tobytes() + right[offset + array.nbytes : -SEAL_SIZE])
        seal(path)
        if compiled.results(path) != before:  # a change that nothing depends on is none
            break
    else:
        pytest.fail("no change of the constants changes a result")
    with pytest.raises(fc.FastconvError, match="This is a bug in tvm-fastconv") as refused:
        compiled.verify(path)
    named = re.search(r"wrong in (.*?): off by", str(refused.value))
    assert named is not None
    assert readers & set(named[1].split(" or ")), change.__name__
    assert len(named[1].split(" or ")) <= 2  # a layer whose sums only a decision reads is named with it
