"""A compiled file's entry function: called plainly, and bound to memory."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tvm import relax, te

from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.runtime.arrays import ALIGNMENT, aligned_empty
from tvm_fastconv.runtime.compiled_model import load
from tvm_fastconv.runtime.entry import LARGE, Entry
from tvm_fastconv.runtime.tvm_runtime import open_library

SHAPE = (4, 8)


def _mixed(x: te.Tensor, y: te.Tensor) -> te.Tensor:
    return te.compute(SHAPE, lambda *at: x[at] * 2.0 + y[at].astype("float32"), name="mixed")


def _parity(y: te.Tensor) -> te.Tensor:
    return te.compute(SHAPE, lambda *at: y[at] % 2 == 1, name="parity")


@pytest.fixture(scope="module")
def two(build, tmp_path_factory) -> SimpleNamespace:
    """``main(x, y) = (2 x + y, y is odd)``, of float32 and int32, and a case of it."""
    path = tmp_path_factory.mktemp("two") / "two.so"
    bb = relax.BlockBuilder()
    x, y = (
        relax.Var(name, relax.TensorType(SHAPE, dtype)) for name, dtype in (("x", "float32"), ("y", "int32"))
    )
    with bb.function("main", [x, y]):
        with bb.dataflow():
            mixed = bb.emit(bb.call_te(_mixed, x, y, primfunc_name_hint="mixed"))
            parity = bb.emit(bb.call_te(_parity, y, primfunc_name_hint="parity"))
            result = bb.emit_output(relax.Tuple([mixed, parity]))
        bb.emit_func_output(result)
    manifest = build(bb.get(), path, output_names=["mixed", "parity"])
    rng = np.random.default_rng(0)
    values = rng.standard_normal(SHAPE, np.float32), rng.integers(0, 9, SHAPE, np.int32)
    answer = (2 * values[0] + values[1].astype(np.float32), values[1] % 2 == 1)
    return SimpleNamespace(path=path, manifest=manifest, inputs=values, answer=answer)


def _assert_answer(got, want) -> None:
    for one, other in zip(got, want, strict=True):
        assert np.asarray(one).dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def _crooked(array: np.ndarray) -> np.ndarray:
    """A copy that starts at no multiple of 64 bytes."""
    memory = np.empty(array.nbytes + 2 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + array.itemsize
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_the_manifest_says_that_no_machine_is_needed(two: SimpleNamespace) -> None:
    assert two.manifest.virtual_machine == ""
    # Nothing lies between the calls: copies of two inputs of 128 bytes, outputs of 128 and 32.
    assert two.manifest.workspace_bytes == 3 * 128 + 64


@pytest.mark.parametrize(
    "change", [np.copy, _crooked, np.asfortranarray], ids=["plain", "crooked", "strided"]
)
def test_arrays_wherever_they_lie(two: SimpleNamespace, change) -> None:
    _assert_answer(load(two.path)(*map(change, two.inputs)), two.answer)


def test_read_only_arrays(two: SimpleNamespace) -> None:
    inputs = [array.copy() for array in two.inputs]
    for array in inputs:
        array.flags.writeable = False
    _assert_answer(load(two.path)(*inputs), two.answer)


def test_halves_are_widened(two: SimpleNamespace) -> None:
    x, y = two.inputs
    half = x.astype(np.float16)
    want = (2 * half.astype(np.float32) + y.astype(np.float32), two.answer[1])
    _assert_answer(load(two.path)(half, y), want)
    _assert_answer(load(two.path)(torch.from_numpy(half), y), want)


def test_torch_tensors_of_every_kind(two: SimpleNamespace) -> None:
    x, y = map(torch.from_numpy, two.inputs)
    model = load(two.path)
    negated = torch._neg_view(-x)  # dense; an imaginary part that is conjugated is so as well, but strided
    assert negated.is_neg()
    assert negated.is_contiguous()
    for tensor in (x, x.clone().requires_grad_(), negated, x.t().contiguous().t()):
        got = model(tensor, y)
        assert all(isinstance(output, torch.Tensor) for output in got)
        _assert_answer(got, two.answer)


def test_outputs_are_new_every_time(two: SimpleNamespace) -> None:
    model = load(two.path)
    first = model(*two.inputs)
    kept = [output.copy() for output in first]
    model(-two.inputs[0], two.inputs[1] + 1)
    _assert_answer(first, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x,), "got 1 inputs; the model takes 2"),
        (lambda x, y: (x, y, y), "got 3 inputs; the model takes 2"),
        (lambda x, y: (x[:2], y), r"input x has shape \(2, 8\); expected \(4, 8\)"),
        (lambda x, y: (x, y.astype(np.int64)), "input y has dtype int64; expected int32"),
        (lambda x, y: (x.view(np.int32), y), "input x has dtype int32; expected float32"),
        (lambda x, y: (x[..., None], y), r"input x has shape \(4, 8, 1\)"),
        (lambda x, y: (x, y.tolist()), "input y is a list; expected an array"),
        (lambda x, y: (None, y), "input x is a NoneType; expected an array"),
    ],
)
def test_wrong_inputs_have_their_message(two: SimpleNamespace, change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(two.path)(*change(*two.inputs))


def test_a_bound_call_reads_and_writes_the_same_memory(two: SimpleNamespace) -> None:
    inputs = [array.copy() for array in two.inputs]
    call = load(two.path).bind(*inputs)
    got = call()
    _assert_answer(got, two.answer)
    inputs[0][...] = 1
    assert call() is got
    assert got is call.outputs
    np.testing.assert_array_equal(got[0], 2 + two.inputs[1].astype(np.float32))


@pytest.mark.parametrize("change", [np.copy, _crooked], ids=["plain", "crooked"])
def test_a_bound_call_writes_where_it_is_told(two: SimpleNamespace, change) -> None:
    outputs = tuple(change(np.zeros_like(array)) for array in two.answer)
    call = load(two.path).bind(*map(change, two.inputs), out=outputs)
    assert call() is call.outputs
    _assert_answer(outputs, two.answer)


def test_a_bound_call_of_torch(two: SimpleNamespace) -> None:
    call = load(two.path).bind(*map(torch.from_numpy, two.inputs))
    got = call()
    assert all(isinstance(output, torch.Tensor) for output in got)
    _assert_answer(got, two.answer)


def test_a_negated_view_is_not_bound(two: SimpleNamespace) -> None:
    x, y = map(torch.from_numpy, two.inputs)
    with pytest.raises(InputError, match="input x is not dense"):
        load(two.path).bind(torch._neg_view(-x), y)


def test_a_bound_call_keeps_its_file_and_arrays(chain, build, matmul_chain, tmp_path: Path) -> None:
    build(matmul_chain([np.eye(8, dtype=np.float32)], 4), tmp_path / "m.so")
    call = load(tmp_path / "m.so").bind(chain.x.copy())
    (tmp_path / "m.so").unlink()
    np.testing.assert_array_equal(call(), chain.x)


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (lambda x, y: (x,), None, "got 1 inputs; the model takes 2"),
        (lambda x, y: (x.tolist(), y), None, "input x is a list; expected an array of NumPy or PyTorch"),
        (lambda x, y: (np.asfortranarray(x), y), None, "input x is not dense"),
        (lambda x, y: (x.astype(np.float16), y), None, "input x has dtype float16; expected float32"),
        (lambda x, y: (x, y[:1]), None, r"input y has shape \(1, 8\)"),
        (lambda x, y: (x, y), lambda x, y: x, "got 1 outputs; the model takes 2"),
        (lambda x, y: (x, y), lambda x, y: (np.zeros(SHAPE), x > 0), "output mixed has dtype float64"),
        (lambda x, y: (x, y), lambda x, y: (x, x > 0), "output mixed shares memory with input x"),
        (lambda x, y: (x, y), lambda x, y: (np.zeros((8, 4), "f").T, x > 0), "output mixed is not dense"),
    ],
)
def test_what_cannot_be_bound_is_said(two: SimpleNamespace, inputs, out, message: str) -> None:
    x, y = (array.copy() for array in two.inputs)
    with pytest.raises(InputError, match=message):
        load(two.path).bind(*inputs(x, y), out=None if out is None else out(x, y))


def test_two_outputs_need_two_memories(two: SimpleNamespace) -> None:
    memory = np.zeros(128, np.uint8)
    mixed, parity = memory.view(np.float32).reshape(SHAPE), memory[96:].view(bool).reshape(SHAPE)
    with pytest.raises(InputError, match="output parity shares memory with output mixed"):
        load(two.path).bind(*two.inputs, out=(mixed, parity))


def test_read_only_memory_is_not_bound(two: SimpleNamespace) -> None:
    x, y = (array.copy() for array in two.inputs)
    x.flags.writeable = False
    with pytest.raises(InputError, match="input x cannot be used where it lies"):
        load(two.path).bind(x, y)


def test_what_needs_a_machine_cannot_be_bound(build, matmul_chain, tmp_path: Path) -> None:
    build(matmul_chain([np.eye(8, dtype=np.float32)], "n"), tmp_path / "m.so")
    model = load(tmp_path / "m.so")
    assert model.manifest.virtual_machine == "shapes are dynamic"
    with pytest.raises(
        InputError, match="cannot be bound: it runs in TVM's virtual machine, since shapes are"
    ):
        model.bind(np.zeros((2, 8), np.float32))


def test_a_large_output_is_aligned(build, tmp_path: Path) -> None:
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((LARGE,), "float32"))
    double = lambda a: te.compute(a.shape, lambda i: a[i] * 2.0, name="double")  # noqa: E731
    with bb.function("main", [x]):
        with bb.dataflow():
            y = bb.emit_output(bb.call_te(double, x, primfunc_name_hint="double"))
        bb.emit_func_output(y)
    build(bb.get(), tmp_path / "m.so")
    got = load(tmp_path / "m.so")(np.ones(LARGE, np.float32))
    assert got.ctypes.data % ALIGNMENT == 0
    assert (got == 2).all()


def test_many_threads_at_once(two: SimpleNamespace) -> None:
    model, wrong = load(two.path, threads=1), []

    def run(i: int) -> None:
        for _ in range(200):
            got = model(two.inputs[0] * i, two.inputs[1])
            if not np.array_equal(got[0], 2 * i * two.inputs[0] + two.inputs[1].astype(np.float32)):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(2**i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_code_that_refuses_its_own_manifest_is_one_message(two: SimpleNamespace) -> None:
    model = load(two.path)
    model._call._inputs = tuple(reversed(model._call._inputs))
    with pytest.raises(ArtifactError, match="its manifest and its code do not agree"):
        model(*reversed(two.inputs))


@pytest.mark.parametrize("bytes_said", [0, 3 * 128])
def test_a_workspace_of_another_size_is_refused(two: SimpleNamespace, bytes_said: int) -> None:
    model = load(two.path)
    manifest = dataclasses.replace(model.manifest, workspace_bytes=bytes_said)
    with pytest.raises(ArtifactError, match="its manifest and its code do not agree on the workspace"):
        Entry(open_library(str(two.path)), str(two.path), manifest, 1)


def test_a_file_without_an_entry_is_one_message(
    two: SimpleNamespace, build, matmul_chain, tmp_path: Path
) -> None:
    path = str(tmp_path / "m.so")
    build(matmul_chain([np.eye(8, dtype=np.float32)], "n"), path)
    with pytest.raises(ArtifactError, match="it has no entry function"):
        Entry(open_library(path), path, two.manifest, 1)


def test_a_bound_call_that_the_code_refuses_is_one_message(two: SimpleNamespace) -> None:
    model = load(two.path)
    model._call._inputs = tuple(reversed(model._call._inputs))
    call = model.bind(*reversed([array.copy() for array in two.inputs]))
    with pytest.raises(ArtifactError, match=r"two\.so cannot run: its manifest and its code do not agree"):
        call()


def test_aligned_empty() -> None:
    array = aligned_empty((3, 5), np.int16)
    assert array.shape == (3, 5)
    assert array.dtype == np.int16
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ctypes.data % ALIGNMENT == 0


def test_a_bound_call_is_not_copied(two: SimpleNamespace) -> None:
    call = load(two.path).bind(*two.inputs)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="bind again instead of copying it"):
            copied(call)
