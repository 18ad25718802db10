"""NVRTC, NVIDIA's compiler as a library of Python's packages: the same machine code as nvcc's, without the toolkit."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import TargetError
from .machine_code import MachineCode, read_report

OPTIONS = ("-std=c++17", "-diag-suppress=177", "--ptxas-options=-v")
"""As nvcc is asked; fused multiply-adds, exact division and square roots, and denormal numbers are what both assume."""

OLDEST = (13, 2)
"""13.0 addresses shared memory by 64 bits, which nvcc does not."""

HEADERS = {
    "cuda/std/cstdint": """
namespace cuda { namespace std {
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t;
typedef unsigned uint32_t; typedef unsigned long uint64_t;
} }
""",
    "cuda/std/type_traits": """
namespace cuda { namespace std {
template <class, class> struct is_same;
template <class, class> extern const bool is_same_v;
template <class> struct is_integral;
template <class> struct is_signed;
template <class> struct is_unsigned;
template <class> struct is_floating_point;
template <bool, class> struct enable_if;
template <bool, class, class> struct conditional;
} }
""",
    "math_constants.h": """
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ULL)
#define CUDART_NAN __longlong_as_double(0xfff8000000000000ULL)
""",
}
"""What TVM's source includes, by name; of the traits it names are declared, and none is used. The toolkit's own headers
are 30 MB, and reading them takes a second for every architecture."""


class Nvrtc:
    """NVRTC and nvFatbin, which joins what it makes.

    Parameters
    ----------
    nvrtc, nvfatbin
        The modules of ``cuda.bindings``.
    """

    def __init__(self, nvrtc: Any, nvfatbin: Any) -> None:
        self._nvrtc = nvrtc
        self._nvfatbin = nvfatbin

    def compile(self, source: str, arches: Sequence[int]) -> MachineCode:
        """Machine code of ``source`` for every compute capability of ``arches``, and PTX of the last.

        Raises
        ------
        TargetError
            The source or an architecture is refused.
        """
        made = [self._compile(source, arch) for arch in arches]
        cubins = {arch: cubin for arch, (cubin, _, _) in zip(arches, made, strict=True)}
        kernels = tuple(kernel for _, _, said in made for kernel in read_report(said))
        try:
            return MachineCode(self._joined(cubins, made[-1][1]), kernels)
        except self._nvfatbin.nvFatbinError as error:
            raise TargetError(f"nvFatbin failed: {error}") from None

    def _compile(self, source: str, arch: int) -> tuple[bytes, bytes, str]:
        """The machine code for one architecture, its PTX, and what was said."""
        nvrtc = self._nvrtc
        names, texts = zip(*HEADERS.items(), strict=True)
        program = self._checked(
            nvrtc.nvrtcCreateProgram(
                source.encode(), b"kernels.cu", len(names), _encoded(texts), _encoded(names)
            )
        )
        try:
            options = (f"--gpu-architecture=sm_{arch}", *OPTIONS)
            (result,) = nvrtc.nvrtcCompileProgram(program, len(options), _encoded(options))
            said = self._read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            log = said.rstrip(b"\0").decode(errors="replace")
            if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
                raise TargetError(f"NVRTC failed: {' '.join(options)}\n{log.strip() or result.name}")
            cubin = self._read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
            ptx = self._read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
            return cubin, ptx, log
        finally:
            self._checked(nvrtc.nvrtcDestroyProgram(program))

    def _read(self, size_of: Callable[..., Any], get: Callable[..., Any], program: Any) -> bytes:
        content = bytearray(self._checked(size_of(program)))
        self._checked(get(program, content))
        return bytes(content)

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        result, *values = answer
        if result != self._nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise TargetError(f"NVRTC failed: {result.name}")
        return values[0] if values else None

    def _joined(self, cubins: dict[int, bytes], ptx: bytes) -> bytes:
        fatbin = self._nvfatbin
        options = ["-64", "-cuda", "-host=linux"]
        handle = fatbin.create(options, len(options))
        try:
            for arch, cubin in cubins.items():
                fatbin.add_cubin(handle, cubin, len(cubin), str(arch), "kernels")
            fatbin.add_ptx(handle, ptx, len(ptx), str(list(cubins)[-1]), "kernels", "")
            content = bytearray(fatbin.size(handle))
            fatbin.get(handle, content)
            return bytes(content)
        finally:
            fatbin.destroy(handle)


def _encoded(words: Sequence[str]) -> list[bytes]:
    return [word.encode() for word in words]


def find_nvrtc() -> Nvrtc | str:
    """NVRTC, or what is missing."""
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        nvfatbin = importlib.import_module("cuda.bindings.nvfatbin")
        _, *version = nvrtc.nvrtcVersion()  # the libraries are opened at the first call
        nvfatbin.version()
    except (ImportError, RuntimeError) as error:
        return str(error).partition("\n")[0]
    if tuple(version) < OLDEST:
        return "version {}.{}, and {}.{} is the oldest that is taken".format(*version, *OLDEST)
    return Nvrtc(nvrtc, nvfatbin)
