"""Load and run compiled models. Needs TVM's runtime library, ``tvm_ffi`` and NumPy; no compiler and no PyTorch."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..artifact.artifact import Artifact, read_artifact
from ..artifact.manifest import Manifest
from ..errors import ArtifactError, InputError
from ..measure.profile import CallTimer, Profile, profile_calls
from ..report import LayerReport
from ..temporary import temporary_folder
from .arrays import stored_arrays
from .entry import BoundCall, Entry
from .gpu_entry import GpuEntry
from .machines import Machines, device_of
from .obstacles import obstacle_of, relative_error
from .shutdown import waited_for_at_exit
from .threads import check_threads
from .tvm_runtime import open_library


@waited_for_at_exit
def load(path: str | os.PathLike[str], *, threads: int | None = None, copy: bool = False) -> "CompiledModel":
    """Load a compiled model.

    Everything is checked before the file is mapped as code: seal and checksum, format, machine, CPU features, versions.
    The checksum finds damage; whoever can write the file can have this process run any code, as with any library.

    The file stays mapped while the model lives. It may be deleted, renamed or replaced by another (``save`` and
    ``compile`` replace it); but changed *in place*, it changes under the code that is running, and the process dies of
    SIGBUS or SIGSEGV. Where something may do that (``cp`` onto it, ``rsync --inplace``), give ``copy=True``.

    Parameters
    ----------
    path
        A file that ``compile`` or ``save`` wrote.
    threads
        Worker threads of one call; ``None`` means ``TVM_NUM_THREADS`` if set, else one per physical core. When many
        threads call at once, 1 is fastest.
    copy
        Map a private copy of the file, in ``$TMPDIR``, which no other process can reach. It takes as much room there
        as the file does, for as long as the model lives.

    Raises
    ------
    ArtifactError
        When the file is not a compiled model, is damaged, or cannot run in this process.
    """
    artifact = read_artifact(path)
    model = private_copy(artifact.read_all(), threads) if copy else CompiledModel(artifact, threads=threads)
    model.require_runnable()
    return model


def private_copy(chunks: Iterable[bytes], threads: int | None = None) -> "CompiledModel":
    """Return a model from a compiled file's bytes, which are written to a file that is unlinked once it is mapped."""
    with temporary_folder() as folder:
        try:
            with open(folder / "model.so", "wb") as file:
                file.writelines(chunks)
        except OSError as error:
            raise ArtifactError(
                f"cannot copy a compiled model to {folder.parent}: {error.strerror}"
            ) from None
        return CompiledModel(read_artifact(folder / "model.so"), threads=threads)


def reopened(path: str, checksum: str, threads: int) -> "CompiledModel":
    """Return the model of a file that must be the one it was; what a pickled model does where it is unpickled.

    Raises
    ------
    ArtifactError
        When the file is gone, damaged, or another one.
    """
    artifact = read_artifact(path)
    if artifact.manifest.checksum != checksum:
        raise ArtifactError(
            f"{path} is not the file that was pickled: its checksum is {artifact.manifest.checksum}, not {checksum}"
        )
    return CompiledModel(artifact, threads=threads)


class CompiledModel:
    """A compiled model, called like a function; any number of threads may call it at once.

    It never changes, so its copies are itself. Pickled, it is the path and the checksum of its file, which is opened
    and checked again where it is unpickled; a model without a file, fresh from ``compile``, carries the file's bytes.

    Parameters
    ----------
    artifact
        A checked file. One for another machine can be inspected and saved, but not called.
    threads
        As for ``load``.

    Attributes
    ----------
    verified_error : float, optional
        What its outputs were found to be off by when it was compiled, relative to the largest of each; ``None`` where
        that was not measured, or before.
    """

    def __init__(self, artifact: Artifact, *, threads: int | None = None) -> None:
        self._artifact = artifact
        self._threads = check_threads(threads)
        self.verified_error: float | None = None
        self._obstacle = obstacle_of(artifact)
        if self._obstacle is None:
            path, manifest = artifact.path, artifact.manifest
            library = open_library(path, device_of(manifest))
            self._machines = Machines(library, path, manifest, self._threads)
            self._call: Machines | Entry | GpuEntry
            if manifest.virtual_machine:
                self._machines.make_one()
                self._call = self._machines
            elif manifest.gpu_arches:
                self._call = GpuEntry(library, path, manifest)
            else:
                self._call = Entry(library, path, manifest, self._threads)

    @waited_for_at_exit
    def __call__(self, *inputs: Any) -> Any:
        """Run the model.

        Parameters
        ----------
        *inputs
            NumPy arrays, PyTorch tensors on the CPU, or anything with DLPack, of the shapes and dtypes in
            ``manifest.inputs``. A model for a GPU also takes PyTorch tensors that are there: then it runs on PyTorch's
            current stream, and its outputs stay there. float16 and bfloat16, of NumPy and PyTorch, are taken for
            float32. Memory that is not dense or not aligned to 64 bytes is copied first.

        Returns
        -------
        One array where the model has one output, else a tuple: PyTorch tensors if an input was one, else NumPy
        arrays. They stay valid when the model is called again or freed.

        Raises
        ------
        InputError
            When count, type, shape or dtype is wrong; nothing has run then.
        """
        self.require_runnable()
        outputs = self._call(inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def bind(self, *inputs: Any, out: Any = None) -> BoundCall:
        """Prepare calls on memory that stays where it is: the quickest way to call a small model again and again.

        ::

            call = model.bind(x, out=y)
            x[...] = image; call()      # y holds the answer

        Parameters
        ----------
        *inputs
            NumPy arrays or PyTorch tensors on the CPU, of the shapes and dtypes in ``manifest.inputs``, dense. Their
            memory is read anew by every call. If it starts at a multiple of 64 bytes, it is read where it lies. A
            tensor of PyTorch must not be resized while it is bound: its memory would be another.
        out
            What the calls write to: an array, or a tuple where the model has several outputs; by default fresh ones,
            which are in `BoundCall.outputs`.

        Raises
        ------
        InputError
            When an array is not as it must be, an output shares memory with another array, or the model runs on a GPU
            or needs TVM's virtual machine (``manifest.virtual_machine`` says why).
        """
        self.require_runnable()
        if not isinstance(self._call, Entry):
            machine = self.manifest.virtual_machine
            reason = f"in TVM's virtual machine, since {machine}" if machine else "on a GPU"
            raise InputError(f"{self._artifact.path} cannot be bound: it runs {reason}")
        outputs = out if out is None or isinstance(out, tuple) else (out,)
        return self._call.bind(inputs, outputs)

    @property
    def runs_here(self) -> bool:
        """Whether this machine can call it."""
        return self._obstacle is None

    @property
    def manifest(self) -> Manifest:
        """Everything the file says about itself."""
        return self._artifact.manifest

    @property
    def layers(self) -> list[LayerReport]:
        """One record per layer: its method, operator, the reason for them, and its sizes."""
        return list(self.manifest.layers)

    @waited_for_at_exit
    def profile(self, *inputs: Any, repeat: int = 10) -> Profile:
        """Measure the milliseconds of each layer in call order, in the best of ``repeat`` runs.

        Raises
        ------
        InputError
            When an input is wrong or ``repeat`` is no number from 1 on.
        """
        timer = self.call_timer(*inputs)
        return profile_calls(self.prepared_call(*inputs), timer, repeat)

    def prepared_call(self, *inputs: Any) -> Callable[[], None]:
        """A function that runs the model on these inputs, leaves its outputs where they are, and returns when they are.

        Inputs are copied to a GPU before and not in each call.

        Raises
        ------
        InputError
            When an input is wrong.
        """
        self.require_runnable()
        return self._call.on(inputs)

    def call_timer(self, *inputs: Any) -> CallTimer:
        """A function that runs the model on these inputs and times every call in it.

        Raises
        ------
        InputError
            When an input is wrong.
        """
        self.require_runnable()
        return self._machines.call_timer(inputs)

    def run_instrumented(self, instrument: Callable[..., None], *inputs: Any) -> tuple[np.ndarray, ...]:
        """Run the model once, with ``instrument`` called before and after each of its functions; return its outputs.

        Parameters
        ----------
        instrument
            ``(function, name, before, result, *arguments)``, as TVM's virtual machine calls it; a compiled function's
            last argument is what it writes. Its memory is used again by later functions.
        """
        self.require_runnable()
        return self._machines.run_instrumented(instrument, inputs)

    def check(self) -> float:
        """Run the bundled reference input and return the largest error relative to the largest expected output.

        Raises
        ------
        ArtifactError
            When the file has no reference pair.
        """
        if (pair := self.reference()) is None:
            raise ArtifactError(f"{self._artifact.path} has no reference input and output to check against")
        inputs, expected = pair
        outputs = self(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if len(outputs) != len(expected):
            raise ArtifactError(f"{self._artifact.path} has {len(expected)} outputs, and gave {len(outputs)}")
        return max(relative_error(got, want) for got, want in zip(outputs, expected, strict=True))

    def reference(self) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """The bundled inputs and the outputs expected for them, of the model that this was compiled from; if any."""
        if (pair := self.manifest.reference) is None:
            return None
        data = self._artifact.read_reference()
        return stored_arrays(data, pair.inputs), stored_arrays(data, pair.outputs)

    def __copy__(self) -> "CompiledModel":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledModel":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        path, checksum = self._artifact.path, self.manifest.checksum
        if self._artifact.is_at_its_path():
            return reopened, (path, checksum, self._threads)
        return private_copy, (list(self._artifact.read_all()), self._threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled file to ``path``; a file that is there is replaced at once or not at all."""
        self._artifact.copy_to(path)

    def require_runnable(self) -> None:
        """Raise ``ArtifactError`` with the reason when the file cannot run in this process."""
        if self._obstacle is not None:
            raise ArtifactError(self._obstacle)

    def __repr__(self) -> str:
        inputs, outputs = (
            ", ".join(map(str, specs)) for specs in (self.manifest.inputs, self.manifest.outputs)
        )
        return f"<CompiledModel {self._artifact.path}: {inputs} -> {outputs}; {len(self.layers)} layers>"
