"""OpenCL C on the CPU, through PoCL, by as many functions of OpenCL as that takes.

Kernels are given the addresses of arrays as numbers: those of the host hold on a CPU, and PoCL has no memory that both
share otherwise.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import tvm

from .attach import Engine
from .kernel_library import EmulationError, Launch

LIBRARY = "libOpenCL.so.1"
PLATFORM = b"Portable Computing Language"
CPU, PLATFORM_NAME, BUILD_LOG = 2, 0x0902, 0x1183  # of CL/cl.h
OPTIONS = b"-cl-std=CL1.2"

_Handles = ctypes.c_void_p * 8
_SCALARS = {
    (0, 32): ctypes.c_int32,
    (0, 64): ctypes.c_int64,
    (1, 32): ctypes.c_uint32,
    (2, 32): ctypes.c_float,
}


@functools.cache
def obstacle() -> str | None:
    """Why there is no PoCL here, or None."""
    try:
        return (
            None
            if _platform()
            else "needs PoCL (Debian: pocl-opencl-icd), and OpenCL has other platforms only"
        )
    except OSError:
        return f"needs PoCL (Debian: pocl-opencl-icd and ocl-icd-libopencl1): there is no {LIBRARY}"


_folder = functools.cache(lambda: tempfile.TemporaryDirectory(prefix="pocl-"))


@functools.cache
def _opencl() -> ctypes.CDLL:
    os.environ["POCL_CACHE_DIR"] = _folder().name  # else what is compiled outlasts this process
    library = ctypes.CDLL(LIBRARY)
    for name in ("clCreateContext", "clCreateCommandQueue", "clCreateProgramWithSource", "clCreateKernel"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def _platform() -> int | None:
    found, count = _Handles(), ctypes.c_uint()
    if _opencl().clGetPlatformIDs(len(found), found, ctypes.byref(count)):
        return None
    for platform in found[: count.value]:
        name = ctypes.create_string_buffer(256)
        _opencl().clGetPlatformInfo(ctypes.c_void_p(platform), PLATFORM_NAME, len(name), name, None)
        if name.value == PLATFORM:
            return platform
    return None


class _Device:
    """The CPU, and a queue for it."""

    def __init__(self) -> None:
        device = ctypes.c_void_p()
        _check(
            _opencl().clGetDeviceIDs(
                ctypes.c_void_p(_platform()), ctypes.c_uint64(CPU), 1, ctypes.byref(device), None
            )
        )
        error = ctypes.c_int()
        devices = ctypes.byref(device)
        context = _opencl().clCreateContext(None, 1, devices, None, None, ctypes.byref(error))
        _check(error.value)
        self.device, self.context = device, ctypes.c_void_p(context)
        queue = _opencl().clCreateCommandQueue(self.context, device, ctypes.c_uint64(0), ctypes.byref(error))
        _check(error.value)
        self.queue = ctypes.c_void_p(queue)


_device = functools.cache(_Device)


@functools.cache
def program_of(source: str, names: tuple[str, ...]) -> dict[str, ctypes.c_void_p]:
    """The kernels ``names`` of OpenCL C, by name."""
    text, error, here = ctypes.c_char_p(_by_address(source).encode()), ctypes.c_int(), _device()
    made = _opencl().clCreateProgramWithSource(here.context, 1, ctypes.byref(text), None, ctypes.byref(error))
    _check(error.value)
    program = ctypes.c_void_p(made)
    if _opencl().clBuildProgram(program, 1, ctypes.byref(here.device), OPTIONS, None, None):
        said = ctypes.create_string_buffer(1 << 16)
        _opencl().clGetProgramBuildInfo(
            program, here.device, BUILD_LOG, ctypes.c_size_t(len(said)), said, None
        )
        raise EmulationError(f"PoCL on the OpenCL source:\n{said.value.decode()}")
    kernels = {}
    for name in names:
        kernels[name] = ctypes.c_void_p(_opencl().clCreateKernel(program, name.encode(), ctypes.byref(error)))
        _check(error.value)
    return kernels


def run_kernel(
    kernels: dict[str, ctypes.c_void_p],
    launch: Launch,
    types: Sequence[tuple[int, int, int]],
    values: Sequence[Any],
    _order: int,
) -> None:
    """Launch a kernel and wait for it; in which order threads run is PoCL's choice."""
    kernel = kernels[launch.name]
    for place, (value, (code, bits, _)) in enumerate(zip(values, types, strict=True)):
        cell = ctypes.c_uint64(value) if code == 3 else _SCALARS[code, bits](value)
        _check(
            _opencl().clSetKernelArg(kernel, place, ctypes.c_size_t(ctypes.sizeof(cell)), ctypes.byref(cell))
        )
    block = (ctypes.c_size_t * 3)(*launch.block)
    every = (ctypes.c_size_t * 3)(*(g * b for g, b in zip(launch.grid, launch.block, strict=True)))
    _check(_opencl().clEnqueueNDRangeKernel(_device().queue, kernel, 3, None, every, block, 0, None, None))
    _check(_opencl().clFinish(_device().queue))


def _check(error: int) -> None:
    if error:
        raise EmulationError(f"OpenCL says error {error}")


def _by_address(source: str) -> str:
    """``source`` with kernels that take a number for each pointer to global memory."""

    def changed(kernel: re.Match) -> str:
        parameters, pointers = [], []
        for parameter in kernel[2].split(","):
            pointer = re.fullmatch(r"\s*(__global .+?\*)\s*(?:restrict )?(\w+)\s*", parameter)
            parameters.append(f"ulong {pointer[2]}_address" if pointer else parameter)
            if pointer:
                pointers.append(f"{pointer[1]} {pointer[2]} = ({pointer[1]}){pointer[2]}_address;")
        return f"{kernel[1]}({', '.join(parameters)}) {{ {' '.join(pointers)}"

    declared = re.sub(r"__kernel void \w+\([^)]*\);", "", source)
    return re.sub(r"(__kernel void[^(]*?\w+)\(([^)]*)\) \{", changed, declared)


POCL = Engine("opencl", program_of, run_kernel)

TARGET = tvm.target.Target(
    {"kind": "opencl", "max_num_threads": 1024, "target_device_type": 1},
    host=tvm.target.Target({"kind": "llvm"}),
)
"""OpenCL C in a host program for tensors of the CPU; as many threads in a block as CUDA has."""
