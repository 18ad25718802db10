"""What may be called how in C, so that nothing else is called so."""

import re
from collections.abc import Sequence

from ..report import TensorSpec

_KEYWORDS = frozenset(
    """
    alignas alignof auto bool break case char const constexpr continue default do double else enum extern false float
    for goto if inline int long nullptr register restrict return short signed sizeof static static_assert struct switch
    thread_local true typedef typeof union unsigned void volatile while and bitand bitor catch class compl delete
    explicit export friend mutable namespace new not operator or private protected public template this throw try
    typeid typename using virtual xor asm decltype noexcept requires concept consteval constinit co_await co_return
    co_yield const_cast dynamic_cast reinterpret_cast static_cast wchar_t char8_t char16_t char32_t and_eq or_eq not_eq
    xor_eq typeof_unqual export import module
    """.split()  # noqa: SIM905
)
"""Of C23 and C++: no member of a structure is called so."""

_HEADERS = frozenset(
    """
    aio alloca assert complex cpio ctype dirent dlfcn elf endian errno error fcntl features fenv float fmtmsg
    fnmatch ftw getopt glob grp iconv ifaddrs inttypes iso646 langinfo libgen limits locale malloc math memory
    monetary mqueue ndbm netdb nl_types omp poll pthread pwd regex sched search semaphore setjmp signal spawn
    stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string strings
    stropts sysexits syslog tar termios tgmath threads time trace uchar ucontext ulimit unistd utime utmpx values
    wchar wctype wordexp
    """.split()  # noqa: SIM905
)
"""Of C and POSIX: ``NAME.h`` would be read in place of one of them."""

_LIBRARIES = frozenset("anl asan atomic c crypt dl gcc gomp m pthread resolv rt tsan ubsan util".split())  # noqa: SIM905
"""Of C compilers and systems: ``-lNAME`` would be another one."""

_MACROS = frozenset(
    """
    assert complex errno imaginary isfinite isinf isnan isnormal linux log2 math_errhandling max min noreturn offsetof
    setjmp signbit stderr stdin stdout unix
    """.split()  # noqa: SIM905
)
"""In small letters; those in capitals are not listed. A member of a structure gets another name."""


def members(specs: Sequence[TensorSpec]) -> list[str]:
    """Identifiers of C for tensors, each another one, as like their names as can be."""
    taken: dict[str, None] = {}
    for spec in specs:
        plain = re.sub(r"\W", "_", spec.name, flags=re.ASCII) or "_"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        macro = plain in _MACROS or re.fullmatch(r"I|[A-Z][A-Z0-9_]{2,}|_[A-Z]\w*", plain)
        plain = f"{plain}_" if macro or plain in _KEYWORDS else plain
        number, candidate = 2, plain
        while candidate in taken:
            number, candidate = number + 1, f"{plain}_{number}"
        taken[candidate] = None
    return list(taken)


def why_no_library_name(name: str) -> str:
    """Why a library cannot be called so; an empty text where it can."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        return "allowed: letters, digits and _, beginning with a letter"
    if name in _KEYWORDS or name in ("main", "std"):
        return "it is a word of C or C++"
    if name in _HEADERS:
        return f"{name}.h is a header of C's own"
    if name in _LIBRARIES:
        return f"lib{name} is a library of the system's"
    return ""
