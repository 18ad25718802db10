"""Where compiled code runs: the one place that says which device stands for a kind of target."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A device as TVM's virtual machine and DLPack number it.

    Parameters
    ----------
    type
        DLPack's ``DLDeviceType``.
    allocator
        TVM's ``AllocatorType`` for the memory that calls reuse.
    """

    type: int
    allocator: int


CPU = Device(type=1, allocator=2)  # kDLCPU, kPooled
CUDA = Device(type=2, allocator=2)  # kDLCUDA, kPooled
