import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tvm_fastconv.errors import InputError
from tvm_fastconv.report import StoredTensor, TensorSpec
from tvm_fastconv.runtime.arrays import ALIGNMENT, bind_inputs, stored_arrays, unwrap_outputs
from tvm_fastconv.runtime.tvm_runtime import tvm_ffi

IMAGE = TensorSpec(name="image", shape=("batch", 3, 5), dtype="float32")
MASK = TensorSpec(name="mask", shape=("batch", 5), dtype="bool")


def aligned(shape, dtype="float32", shift=0):
    """Return ones whose memory starts ``shift`` bytes after a multiple of 64."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + 2 * ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT + shift
    array = buffer[start : start + size].view(dtype).reshape(shape)
    array[...] = 1
    return array


def bind(*inputs, specs=(IMAGE,)):
    return bind_inputs(inputs, specs)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a,
        torch.from_numpy,
        lambda a: torch.nn.Parameter(torch.from_numpy(a)),
        lambda a: tvm_ffi().from_dlpack(a),
    ],
    ids=["numpy", "torch", "parameter", "dlpack"],
)
def test_aligned_memory_is_not_copied(make):
    array = aligned((2, 3, 5))
    (tensor,) = bind(make(array))
    assert tensor.data_ptr() == array.ctypes.data


@pytest.mark.parametrize(
    "array",
    [
        aligned((2, 3, 5), shift=4),
        np.arange(30, dtype="float32").reshape(5, 3, 2).T,
        np.arange(60, dtype="float32").reshape(2, 3, 10)[..., ::2],
        np.broadcast_to(np.arange(5, dtype="float32"), (2, 3, 5)),
        torch.arange(30, dtype=torch.float32).reshape(5, 3, 2).permute(2, 1, 0),
        tvm_ffi().from_dlpack(np.arange(30, dtype="float32").reshape(5, 3, 2).T),
    ],
    ids=["unaligned", "transposed", "strided", "read-only", "torch", "dlpack"],
)
def test_other_memory_is_copied(array):
    (tensor,) = bind(array)
    assert tensor.data_ptr() % ALIGNMENT == 0
    np.testing.assert_array_equal(
        np.from_dlpack(tensor),
        np.asarray(np.from_dlpack(array) if not isinstance(array, np.ndarray) else array),
    )


@pytest.mark.parametrize("view", [torch._neg_view, lambda x: torch.complex(x, x).conj().imag])
def test_a_negated_view_is_read_as_such(view):
    x = torch.arange(30, dtype=torch.float32).reshape(2, 3, 5)
    (tensor,) = bind(view(x))
    np.testing.assert_array_equal(np.from_dlpack(tensor), -x.numpy())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), r"got 0 inputs; the model takes 1: image \(batch, 3, 5\) float32"),
        ((aligned((1, 3, 5)),) * 2, "got 2 inputs"),
        (([[1.0]],), "input image is a list; expected an array"),
        ((None,), "input image is a NoneType"),
        ((aligned((1, 3, 5), "float64"),), "input image has dtype float64; expected float32"),
        ((aligned((1, 3, 5), ">f4"),), "input image cannot be read through DLPack"),
        ((np.array([["a"]]),), "input image cannot be read through DLPack"),
        ((aligned((1, 3, 4)),), r"input image has shape \(1, 3, 4\); expected \(batch, 3, 5\), batch = 1"),
        ((aligned((3, 5)),), r"input image has shape \(3, 5\); expected"),
        ((np.empty((0, 3, 5), "float32"),), r"input image has shape \(0, 3, 5\); expected"),
        ((aligned((1, 3, 5), "int64"),), "input image has dtype int64; expected float32"),
        ((torch.ones(1, 3, 5, dtype=torch.float64),), "input image has dtype float64; expected float32"),
        ((torch.ones(1, 3, 5).to_sparse(),), "input image cannot be read through DLPack"),
        (
            (torch.ones(1, 3, 5, device="meta"),),
            "input image cannot be read through DLPack: Cannot pack.* meta$",
        ),
        ((np.ones((1, 3, 5), "complex64"),), "input image has dtype complex64; expected float32"),
        (
            (torch.ones(1, 3, 5, dtype=torch.complex128),),
            "input image has dtype complex128; expected float32",
        ),
        ((FakeTensorMode().from_tensor(torch.ones(1, 3, 5)),), "input image is a FakeTensor without data"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(InputError, match=message):
        bind(*inputs)


@pytest.mark.parametrize(
    "half",
    [
        np.arange(15, dtype="float16").reshape(1, 3, 5),
        torch.arange(15, dtype=torch.float16).reshape(1, 3, 5),
        torch.arange(15, dtype=torch.bfloat16).reshape(1, 3, 5).requires_grad_(),
    ],
    ids=["numpy", "float16", "bfloat16"],
)
def test_half_precision_becomes_float32(half):
    (tensor,) = bind(half)
    want = np.arange(15, dtype="float32").reshape(1, 3, 5)
    np.testing.assert_array_equal(np.from_dlpack(tensor), want, strict=True)
    with pytest.raises(InputError, match=r"input mask has dtype b?float16; expected bool"):
        bind(half, half[0, :1], specs=(IMAGE, MASK))


def test_one_dynamic_dimension_has_one_size():
    bind(aligned((2, 3, 5)), aligned((2, 5), "bool"), specs=(IMAGE, MASK))
    with pytest.raises(InputError, match=r"input mask has shape \(3, 5\); expected \(batch, 5\), batch = 2"):
        bind(aligned((2, 3, 5)), aligned((3, 5), "bool"), specs=(IMAGE, MASK))


@pytest.mark.parametrize("as_torch", [False, True])
def test_outputs_share_memory_unless_it_is_borrowed(as_torch):
    own, weight = aligned((2,)), aligned((3,))
    address = weight.ctypes.data
    result = [tvm_ffi().from_dlpack(own), tvm_ffi().from_dlpack(weight)]
    first, second = unwrap_outputs(result, [(address, address + 12)], as_torch)
    assert isinstance(first, torch.Tensor) == as_torch
    own[0] = weight[0] = 7
    assert (first[0], second[0]) == (7, 1)


def test_stored_arrays():
    data = np.arange(32, dtype="float32").tobytes()
    table = [
        StoredTensor(offset=64, shape=(2, 3), dtype="float32"),
        StoredTensor(offset=0, shape=(), dtype="float32"),
    ]
    matrix, scalar = stored_arrays(data, table)
    np.testing.assert_array_equal(matrix, [[16, 17, 18], [19, 20, 21]])
    assert scalar.shape == ()
