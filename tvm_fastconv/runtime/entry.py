"""Calls of a compiled file's own entry function, without a virtual machine: on given memory, in one workspace."""

import functools
import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..artifact.manifest import Manifest
from ..errors import ArtifactError, InputError
from ..report import TensorSpec
from .arrays import ALIGNMENT, address_range, aligned_empty, bind_inputs, held_tensors, is_torch
from .shutdown import ENDING, RUNNING, waited_for_at_exit
from .threads import CURRENT, use_threads
from .tvm_runtime import Library, tvm_ffi

RUN_FUNCTION = "fastconv_run"
"""Exported by files that need no virtual machine: inputs, outputs, address of a workspace → 0, or 1 where a tensor has
another shape, dtype, layout or device than the model's: nothing has run then."""

WORKSPACE_FUNCTION = "fastconv_workspace_bytes"
"""Exported beside it: how many bytes it needs there, as the manifest says too."""

LARGE = 16384
"""Bytes from which on an output is put where the code can write to it, which costs a microsecond."""


class Entry:
    """The entry function of a library; any number of threads may call it at once.

    Raises
    ------
    ArtifactError
        When the library needs another workspace than the manifest says: it would write beside it.
    """

    def __init__(self, library: Library, path: str, manifest: Manifest, threads: int) -> None:
        self._path, self._threads = path, threads
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        self._bytes = manifest.workspace_bytes
        try:
            self._run, needed = library.function(RUN_FUNCTION), library.function(WORKSPACE_FUNCTION)()
        except AttributeError:
            raise ArtifactError(f"{path} cannot run: it has no entry function") from None
        if needed != self._bytes:
            raise ArtifactError(f"{path} cannot run: its manifest and its code do not agree on the workspace")
        self._makers = [_maker(spec) for spec in manifest.outputs]
        self._idle: list[tuple[int, Any]] = []  # workspaces that no thread is using: address, memory

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Run the model; as `CompiledModel.__call__`, with all outputs in a tuple."""
        if getattr(CURRENT, "threads", None) != self._threads:
            use_threads(self._threads, tvm_ffi())
        outputs = [make() for make in self._makers]
        as_they_are, as_torch = len(inputs) == len(self._inputs), False
        for value in inputs:
            if is_torch(value):
                # DLPack says nothing of the bit by which a view is its memory negated.
                as_torch, as_they_are = True, as_they_are and not value.is_neg()
            elif type(value) is not np.ndarray:
                as_they_are = False
        if not (as_they_are and self._runs_on_these(inputs, outputs)):
            self._run_on(bind_inputs(inputs, self._inputs), outputs)
        return tuple(map(_as_torch, outputs)) if as_torch else tuple(outputs)

    def on(self, inputs: Sequence[Any]) -> Callable[[], None]:
        """A function that runs the model on ``inputs`` and leaves its outputs where they are."""
        arguments, outputs = bind_inputs(inputs, self._inputs), [make() for make in self._makers]

        def run() -> None:
            use_threads(self._threads, tvm_ffi())
            self._run_on(arguments, outputs)

        return run

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any] | None) -> "BoundCall":
        """As `CompiledModel.bind`."""
        held = held_tensors(inputs, self._inputs, "input")
        if outputs is None:
            as_torch = any(map(is_torch, inputs))
            made = (make() for make in map(_aligned_maker, self._outputs))
            outputs = tuple(map(_as_torch, made)) if as_torch else tuple(made)
        tensors = [*held, *held_tensors(outputs, self._outputs, "output")]
        _refuse_overlaps(tensors, (*self._inputs, *self._outputs), len(held))
        call = functools.partial(self._run, *tensors)
        return BoundCall(call, tuple(outputs), self._threads, _workspace(self._bytes), self._path)

    def _runs_on_these(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
        """Run on arrays of NumPy and tensors of PyTorch as they are; whether they are what the code takes."""
        try:
            return self._call(inputs, outputs) == 0
        except Exception:  # such as of a read-only array, which DLPack cannot describe
            return False

    def _run_on(self, arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
        _check(self._path, lambda: self._call(arguments, outputs))

    def _call(self, arguments: Sequence[Any], outputs: Sequence[Any]) -> int:
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _workspace(self._bytes)
        status: int = self._run(*arguments, *outputs, workspace[0])
        self._idle.append(workspace)
        return status


class BoundCall:
    """A model on memory that stays where it is; made by `CompiledModel.bind`.

    Calling it, without arguments, reads the inputs' memory and writes the outputs'. One thread at a time may call it:
    it has one workspace. It keeps the arrays and the file alive.

    Attributes
    ----------
    outputs : tuple
        What the model writes to.
    """

    def __init__(
        self,
        run: Callable[[int], int],
        outputs: tuple[Any, ...],
        threads: int,
        workspace: tuple[int, Any],
        path: str,
    ) -> None:
        self.outputs = outputs
        self._result = outputs[0] if len(outputs) == 1 else outputs
        self._threads, self._workspace, self._path = threads, workspace, path
        self._call = functools.partial(run, workspace[0])

    def __call__(self) -> Any:
        """Run the model; returns its output, or the tuple of its outputs, which are the same arrays every time."""
        # What `waited_for_at_exit` does, and `use_threads`, without calling them: that would take longer than the rest.
        RUNNING.append(None)
        try:
            if not ENDING:
                if getattr(CURRENT, "threads", None) != self._threads:
                    use_threads(self._threads, tvm_ffi())
                _check(self._path, self._call)
                return self._result
        finally:
            RUNNING.pop()
        return self._at_the_end()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a bound call stays with its memory and its workspace: bind again instead of copying it"
        )

    @waited_for_at_exit
    def _at_the_end(self) -> Any:
        use_threads(self._threads, tvm_ffi())
        _check(self._path, self._call)
        return self._result


def _check(path: str, call: Callable[[], int]) -> None:
    """Call what returns 0 where it ran.

    Raises
    ------
    ArtifactError
        It did not; the message says why.
    """
    try:
        if call() == 0:
            return
        line = "its manifest and its code do not agree, or memory that it is bound to was resized"
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise ArtifactError(f"{path} cannot run: {line}")


def _maker(spec: TensorSpec) -> Callable[[], np.ndarray]:
    """What makes memory for an output, wherever that is quickest."""
    shape, dtype = tuple(map(int, spec.shape)), np.dtype(spec.dtype)
    if prod(shape) * dtype.itemsize >= LARGE:
        return _aligned_maker(spec)
    return functools.partial(np.empty, shape, dtype)


def _aligned_maker(spec: TensorSpec) -> Callable[[], np.ndarray]:
    """What makes memory that the code can write to."""
    return functools.partial(aligned_empty, tuple(map(int, spec.shape)), np.dtype(spec.dtype))


def _workspace(size: int) -> tuple[int, Any]:
    """The address of so many bytes, and what keeps them."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return memory.ctypes.data + -memory.ctypes.data % ALIGNMENT, memory


def _as_torch(array: np.ndarray) -> Any:
    return sys.modules["torch"].from_numpy(array)


def _refuse_overlaps(tensors: Sequence[Any], specs: Sequence[TensorSpec], inputs: int) -> None:
    """No output may lie where an input or another output does: kernels read while they write."""
    ranges = list(map(address_range, tensors, specs))
    for i in range(inputs, len(ranges)):
        for j in range(i):
            if ranges[i][0] < ranges[j][1] and ranges[j][0] < ranges[i][1]:
                kind = "input" if j < inputs else "output"
                raise InputError(f"output {specs[i].name} shares memory with {kind} {specs[j].name}")
