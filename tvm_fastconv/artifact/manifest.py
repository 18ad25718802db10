"""The manifest of a compiled model: everything that can be known about the file without running it.

It is JSON in a section of the ``.so`` that is never mapped. The file's size and checksum are not in that JSON, since
they cover it; the reader takes them from the seal at the end of the file (see ``artifact``).
"""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from ..report import LayerReport, StoredTensor, TensorSpec
from ..typed_json import AtMost, from_json, to_json

FORMAT_VERSION = 3
"""Raised whenever a loader of the previous version could misread a file."""

MAX_BYTES = 8 << 20
"""Of the JSON. Layers take about 600 bytes each."""

MAX_TENSORS, MAX_RECORDS = 1024, 20_000
"""Inputs, or outputs; layers, calls, weights, notices."""

_FROM_SEAL = ("file_size", "checksum")


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """One call of a compiled function in the entry function.

    Parameters
    ----------
    function
    layer
        The one it belongs to, if any.
    reads
        The calls whose results it reads, by their place in the list of all.
    inputs
        The inputs that it reads, by their place.
    is_output
        Whether its result is an output.
    """

    function: str
    layer: str | None
    reads: Annotated[tuple[int, ...], AtMost(MAX_RECORDS)] = ()
    inputs: Annotated[tuple[int, ...], AtMost(MAX_TENSORS)] = ()
    is_output: bool = False


@dataclass(frozen=True, kw_only=True)
class ReferencePair:
    """Inputs and the outputs expected for them, as offsets into the reference section."""

    inputs: Annotated[tuple[StoredTensor, ...], AtMost(MAX_TENSORS)]
    outputs: Annotated[tuple[StoredTensor, ...], AtMost(MAX_TENSORS)]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a compiled file says about itself.

    Parameters
    ----------
    format_version
        Version of the file's layout.
    package_version, tvm_version, tvm_ffi_version
        Versions that compiled the file.
    abi
        What the code expects of its process, as ``artifact.abi_name`` writes it.
    target
        The target, in the words that `compile` takes.
    cpu_features
        LLVM names of the CPU features that the code may use.
    inputs, outputs
        The entry function's tensors, in order.
    layers
        One record per layer.
    calls
        Calls of compiled functions in the order the entry function makes them.
    weights
        Where each weight lies in the weights section.
    reference
        The bundled inputs and outputs, if any.
    verify
        One line: what verification found, or why it was skipped.
    notices
        One-line facts that the user was told while compiling.
    virtual_machine
        Why calls go through TVM's virtual machine; empty where one entry function makes them.
    workspace_bytes
        Memory that the entry function takes from its caller; on a GPU, beside that of inputs and outputs.
    gpu_arches
        Compute capabilities (90 is 9.0) that it holds machine code for; none where it runs on a CPU.
    file_size, checksum
        Of the whole file, taken from its seal; 0 and empty while the file is being written.
    """

    format_version: int
    package_version: str
    tvm_version: str
    tvm_ffi_version: str
    abi: str
    target: str
    cpu_features: Annotated[tuple[str, ...], AtMost(MAX_TENSORS)]
    inputs: Annotated[tuple[TensorSpec, ...], AtMost(MAX_TENSORS)]
    outputs: Annotated[tuple[TensorSpec, ...], AtMost(MAX_TENSORS)]
    layers: Annotated[tuple[LayerReport, ...], AtMost(MAX_RECORDS)]
    calls: Annotated[tuple[CallRecord, ...], AtMost(MAX_RECORDS)]
    weights: Annotated[tuple[StoredTensor, ...], AtMost(MAX_RECORDS)]
    reference: ReferencePair | None
    verify: str
    notices: Annotated[tuple[str, ...], AtMost(MAX_RECORDS)]
    virtual_machine: str
    workspace_bytes: int
    gpu_arches: Annotated[tuple[int, ...], AtMost(MAX_TENSORS)]
    file_size: int = 0
    checksum: str = ""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ValueError("there are no outputs")
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            names = Counter(spec.name for spec in specs)
            if repeated := [name for name, count in names.items() if count > 1]:
                raise ValueError(f"two {kind}s are named {min(repeated)!r}")
        if self.workspace_bytes < 0:
            raise ValueError(f"the workspace has {self.workspace_bytes} bytes")
        dynamic = [
            spec for spec in (*self.inputs, *self.outputs) if any(isinstance(d, str) for d in spec.shape)
        ]
        if dynamic and not self.virtual_machine:
            raise ValueError(f"{dynamic[0]} is dynamic, and no virtual machine is needed")
        if self.reference is not None:
            _check_pair("input", self.inputs, self.reference.inputs)
            _check_pair("output", self.outputs, self.reference.outputs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, without the gaps between them; of its layers' where a GPU's code holds them itself."""
        if self.gpu_arches and self.virtual_machine:
            return sum(layer.weight_bytes for layer in self.layers)
        return sum(weight.nbytes for weight in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain dicts, lists and scalars, size and checksum included."""
        return to_json(self)

    def to_section(self) -> bytes:
        """Return the JSON that goes into the file."""
        fields = {key: value for key, value in to_json(self).items() if key not in _FROM_SEAL}
        return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_section(cls, section: bytes, *, file_size: int, checksum: str) -> "Manifest":
        """Read what ``to_section`` wrote; ``ValueError`` names the first field that is wrong."""
        if len(section) > MAX_BYTES:
            raise ValueError(f"the manifest has {len(section)} bytes; allowed: up to {MAX_BYTES}")
        try:
            data = json.loads(section)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the manifest is not JSON: {error}") from None
        manifest = from_json(cls, data, "manifest")
        return dataclasses.replace(manifest, file_size=file_size, checksum=checksum)


def _check_pair(kind: str, specs: tuple[TensorSpec, ...], stored: tuple[StoredTensor, ...]) -> None:
    """Refuse a reference pair that cannot be an input or output of the model."""
    if len(specs) != len(stored):
        raise ValueError(f"{len(stored)} reference {kind}s for {len(specs)} {kind}s")
    for spec, tensor in zip(specs, stored, strict=True):
        same_rank = len(spec.shape) == len(tensor.shape)
        if not same_rank or any(
            s != t for s, t in zip(spec.shape, tensor.shape, strict=True) if isinstance(s, int)
        ):
            raise ValueError(f"the reference {kind} for {spec} has shape {tensor.shape}")
        if spec.dtype != tensor.dtype:
            raise ValueError(f"the reference {kind} for {spec} has dtype {tensor.dtype}")
