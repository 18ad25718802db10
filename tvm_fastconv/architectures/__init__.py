"""The table of CPU architectures that we compile for. It is read wherever models are loaded, and imports nothing."""

from .aarch64 import AARCH64
from .architecture import Architecture
from .armv7l import ARMV7L
from .x86_64 import X86_64

ARCHITECTURES = {row.name: row for row in (X86_64, AARCH64, ARMV7L)}
"""By their name in LLVM's triples."""

__all__ = ["ARCHITECTURES", "Architecture"]
