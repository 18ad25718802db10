"""Arrays of any library in and out of a compiled model, through DLPack.

An input is handed over without a copy when its memory is dense and starts at a multiple of 64 bytes, which the code
relies on; anything else is copied, and half precision becomes the float32 that is computed in. Outputs are never
copied, unless they are an input or a weight handed back. What runs on a GPU takes tensors that are there as they are,
copies others, and returns its outputs where its inputs were.
"""

import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError
from ..report import ALIGNMENT, ITEM_BYTES, StoredTensor, TensorSpec
from .device import CPU, CUDA, Device
from .gpu import to_cpu, to_gpu
from .tvm_runtime import tvm_ffi

_HALVES = ("torch.float16", "torch.bfloat16", "float16")


def bind_inputs(
    inputs: Sequence[Any], specs: Sequence[TensorSpec], device: Device = CPU, upload: bool = True
) -> list[Any]:
    """Return the inputs as tensors that code for ``device`` takes, checked against what the model expects.

    Parameters
    ----------
    upload
        Copy what lies on the host to ``device``, where that is another place; without, dense tensors stay there.

    Raises
    ------
    InputError
        When the count, a type, device, shape or dtype is wrong, or two sizes of one dynamic dimension differ.
    """
    _check_count(inputs, specs, "input")
    sizes: dict[str, int] = {}
    tensors = []
    for value, spec in zip(inputs, specs, strict=True):
        tensor = _tensor(value, spec)
        _check(tensor, value, spec, sizes, device, "input")
        if tensor.device.dlpack_device_type() == CUDA.type:
            tensors.append(_on_gpu(tensor, value, spec))
            continue
        usable = tensor if _is_usable(tensor) else _aligned_copy(tensor, spec)
        tensors.append(to_gpu(usable) if device == CUDA and upload else usable)
    return tensors


def held_tensors(values: Sequence[Any], specs: Sequence[TensorSpec], kind: str) -> list[Any]:
    """Return tensors over the very memory of arrays, which is read or written whenever a bound model is called.

    Parameters
    ----------
    kind
        ``"input"`` or ``"output"``, for messages.

    Raises
    ------
    InputError
        When the count, a type, device, shape or dtype is wrong, or memory is not dense or cannot be written to.
    """
    _check_count(values, specs, kind)
    tensors = []
    for value, spec in zip(values, specs, strict=True):
        if not isinstance(value, np.ndarray) and not is_torch(value):
            raise InputError(
                f"{kind} {spec.name} is a {_kind_of(value)}; expected an array of NumPy or PyTorch"
            )
        try:
            tensor = tvm_ffi().from_dlpack(value)
        except Exception as error:
            cause = str(error).partition("\n")[0]
            raise InputError(f"{kind} {spec.name} cannot be used where it lies: {cause}") from error
        _check(tensor, value, spec, {}, CPU, kind)
        if not tensor.is_contiguous() or (is_torch(value) and value.is_neg()):
            raise InputError(f"{kind} {spec.name} is not dense: its elements do not lie in a row")
        tensors.append(tensor)
    return tensors


def aligned_empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return an array that starts at a multiple of `ALIGNMENT`."""
    size = prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """Return a dense copy that starts at a multiple of `ALIGNMENT`."""
    copy = aligned_empty(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


def unwrap_outputs(
    result: Any, borrowed: Sequence[tuple[int, int]], as_torch: bool, on_gpu: bool = False
) -> tuple[Any, ...]:
    """Return what a virtual machine returned as NumPy arrays or PyTorch tensors that own or keep their memory.

    Parameters
    ----------
    result
        A tensor or an array of them.
    borrowed
        Address ranges (begin, end) of memory that an output must not point into: it is copied if it does.
    as_torch
        PyTorch tensors instead of NumPy arrays.
    on_gpu
        PyTorch tensors that stay on the GPU, and may still be being computed.
    """
    tensors = (result,) if isinstance(result, tvm_ffi().Tensor) else tuple(result)
    outputs = []
    for computed in tensors:
        if on_gpu:
            # Into memory of PyTorch's: TVM's pool would hand an output that is gone to a stream that knows nothing of
            # those who still read it.
            outputs.append(sys.modules["torch"].from_dlpack(computed).clone())
            continue
        tensor = to_cpu(computed)
        address = tensor.data_ptr()
        array = np.from_dlpack(tensor)
        if any(begin <= address < end for begin, end in borrowed):
            array = array.copy()
        outputs.append(sys.modules["torch"].from_numpy(array) if as_torch else array)
    return tuple(outputs)


def address_range(tensor: Any, spec: TensorSpec) -> tuple[int, int]:
    """Return the first and the past-the-end address of a dense tensor that `bind_inputs` made."""
    begin = tensor.data_ptr()
    return begin, begin + tensor.numel() * ITEM_BYTES[spec.dtype]


def is_on_gpu(value: Any) -> bool:
    """Return whether ``value`` is a PyTorch tensor in the memory of a GPU."""
    return is_torch(value) and value.is_cuda


def is_torch(value: Any) -> bool:
    """Return whether ``value`` is a PyTorch tensor, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def stored_arrays(data: bytes, table: Sequence[StoredTensor]) -> list[np.ndarray]:
    """Return the tensors of ``table`` that lie in ``data``."""
    return [
        np.frombuffer(data, t.dtype, offset=t.offset, count=t.nbytes // ITEM_BYTES[t.dtype]).reshape(t.shape)
        for t in table
    ]


def _tensor(value: Any, spec: TensorSpec) -> Any:
    if not hasattr(value, "__dlpack__"):
        raise InputError(
            f"input {spec.name} is a {_kind_of(value)}; expected an array: NumPy, PyTorch, or any with DLPack"
        )
    dtype = getattr(value, "dtype", None)
    # NumPy takes 3 µs to spell a dtype: only those of two bytes are asked for their name.
    widens = spec.dtype == "float32" and getattr(dtype, "itemsize", 2) == 2 and str(dtype) in _HALVES
    if is_torch(value):
        # DLPack says nothing of the bits by which a view is its memory negated or conjugated.
        value = value.detach().resolve_conj().resolve_neg()
        value = value.float() if widens else value
    elif widens and isinstance(value, np.ndarray):
        value = value.astype(np.float32)
    elif isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()  # NumPy exports no read-only array, since older DLPack cannot say that it is one
    try:
        return tvm_ffi().from_dlpack(value)
    except Exception as error:  # each library raises its own kinds
        cause = str(error).partition("\n")[0]
        raise InputError(f"input {spec.name} cannot be read through DLPack: {cause}") from error


def _check_count(values: Sequence[Any], specs: Sequence[TensorSpec], kind: str) -> None:
    if len(values) != len(specs):
        wanted = "; ".join(map(str, specs)) or "none"
        raise InputError(f"got {len(values)} {kind}s; the model takes {len(specs)}: {wanted}")


def _kind_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _check(
    tensor: Any, value: Any, spec: TensorSpec, sizes: dict[str, int], device: Device, kind: str
) -> None:
    places = (CPU.type, device.type)
    if not isinstance(value, np.ndarray) and tensor.device.dlpack_device_type() not in places:
        wanted = "the CPU" if device == CPU else "the CPU or the first GPU"
        raise InputError(f"{kind} {spec.name} is on {tensor.device}; expected {wanted}")
    if (dtype := _dtype(tensor, value)) != spec.dtype:
        raise InputError(f"{kind} {spec.name} has dtype {dtype}; expected {spec.dtype}")
    shape = tuple(tensor.shape)
    fits = shape == spec.shape or (
        len(shape) == len(spec.shape)
        and all(
            size > 0 and size == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, size))
            for size, wanted in zip(shape, spec.shape, strict=True)
        )
    )
    if not fits:
        known = "".join(f", {name} = {size}" for name, size in sizes.items() if name in spec.shape)
        raise InputError(
            f"{kind} {spec.name} has shape {shape}; expected ({', '.join(map(str, spec.shape))}){known}"
        )
    if not tensor.data_ptr():
        raise InputError(f"{kind} {spec.name} is a {type(value).__name__} without data")


def _dtype(tensor: Any, value: Any) -> str:
    try:
        return str(tensor.dtype)
    except ValueError:  # complex numbers, of which TVM has no name
        return str(value.dtype).removeprefix("torch.")


def _is_usable(tensor: Any) -> bool:
    return tensor.data_ptr() % ALIGNMENT == 0 and tensor.is_contiguous()


def _on_gpu(tensor: Any, value: Any, spec: TensorSpec) -> Any:
    if tensor.device.index:
        raise InputError(f"input {spec.name} is on {tensor.device}; expected the first GPU")
    if _is_usable(tensor):
        return tensor
    if not is_torch(value):
        raise InputError(f"input {spec.name} is not dense; copy it first")
    return tvm_ffi().from_dlpack(value.detach().contiguous().clone())


def _aligned_copy(tensor: Any, spec: TensorSpec) -> Any:
    try:
        array = np.from_dlpack(tensor)
    except Exception as error:
        raise InputError(f"input {spec.name} cannot be copied to aligned memory: {error}") from error
    return tvm_ffi().from_dlpack(aligned_copy(array))
