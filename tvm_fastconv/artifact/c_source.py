"""The C source and the header of a network as a C library: free of TVM, of allocation and of global state.

What TVM's generated code calls of a runtime, it calls through pointers. Here they lead to a few lines that hand tasks
to the caller's threads, and memory out of the caller's workspace; what they have to know of a call is in thread-local
variables while it runs.
"""

import hashlib
import re
from collections.abc import Sequence

from tvm_fastconv.relay_passes.module.straight_line import StraightLine

from ..report import ALIGNMENT, StoredTensor, TensorSpec
from .entry_source import port_bytes, run_source

C_TYPES = {
    "bool": "uint8_t",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "float32": "float",
    "float64": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Of an element."""

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

_HEADER = """\
/* {name}: a network, compiled by tvm-fastconv {version} for {target}. */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#ifndef FASTCONV_POOL
#define FASTCONV_POOL
/* Threads of the caller's. run(context, task, job, count) calls task(job, i) once for each i from 0 to count - 1, on
   any threads, and returns when all have returned: 0, or what a task returned that was not 0. */
typedef struct {{
  int (*run)(void* context, int (*task)(void* job, int i), void* job, int count);
  void* context;
  int threads; /* the most tasks that one call makes */
}} fastconv_pool;

typedef enum {{
  FASTCONV_OK = 0,
  FASTCONV_NULL = 1,            /* a pointer is NULL, or a pool has no threads */
  FASTCONV_UNALIGNED = 2,       /* an address is no multiple of FASTCONV_ALIGNMENT */
  FASTCONV_SMALL_WORKSPACE = 3, /* smaller than {name}_workspace_bytes(pool) */
  FASTCONV_FAILED = 4           /* the pool's run did not return 0 */
}} fastconv_status;

#define FASTCONV_ALIGNMENT {alignment} /* bytes, of tensors, workspace and weights */
#endif

/* Tensors are dense, the last index running fastest. No output may lie where an input or another output does. */
{macros}
typedef struct {{
{input_members}}} {name}_inputs;

typedef struct {{
{output_members}}} {name}_outputs;

/* Memory that a call needs beside its tensors, which it may use for anything. */
size_t {name}_workspace_bytes(const fastconv_pool* pool);

/* Run the network: on the threads of `pool`, or on this one where that is NULL. Any number of threads may call it at
   once, each with a workspace of its own. Unless it returns FASTCONV_OK or FASTCONV_FAILED, it has written nothing. */
fastconv_status {name}_run({weights_parameter}const {name}_inputs* inputs, const {name}_outputs* outputs,
    void* workspace, size_t workspace_bytes, const fastconv_pool* pool);

#ifdef __cplusplus
}}
#endif
#endif
"""

_BACKEND = """\
#include "{name}.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define EXPORT __attribute__((visibility("default")))
#define ALIGNED(bytes) (((bytes) + FASTCONV_ALIGNMENT - 1) / FASTCONV_ALIGNMENT * FASTCONV_ALIGNMENT)

/* Bytes of tensors between kernels and of one task's buffers, which are planned; of any further task's buffers. */
enum {{ PLANNED = {planned}, SCRATCH = {scratch} }};

struct environment {{ void* unused; int32_t tasks; }};
typedef int (*function)(int, struct environment*, void*);
struct job {{ function call; void* data; char *scratch, *further; struct environment environment; }};

/* Of the call that this thread is in: whose threads it may use, their buffers, and what is free of its own. */
static _Thread_local const fastconv_pool* threads;
static _Thread_local char *further, *scratch;

static int task(void* data, int i) {{
  struct job* job = data;
  const fastconv_pool* outer_threads = threads;
  char* outer_scratch = scratch;
  threads = 0;
  scratch = i ? job->further + (size_t)(i - 1) * SCRATCH : job->scratch;
  int status = job->call(i, &job->environment, job->data);
  threads = outer_threads;
  scratch = outer_scratch;
  return status;
}}

static int launch(function call, void* data, int tasks) {{
  const fastconv_pool* pool = threads;
  if (!pool || pool->threads == 1) {{
    struct environment alone = {{0, tasks > 0 ? tasks : 1}};
    for (int i = 0; i < alone.tasks; i++)
      if (call(i, &alone, data)) return -1;
    return 0;
  }}
  struct job job = {{call, data, scratch, further, {{0, tasks > 0 && tasks < pool->threads ? tasks : pool->threads}}}};
  return pool->run(pool->context, task, &job, job.environment.tasks) ? -1 : 0;
}}

static void* take(int device, int number, uint64_t bytes, int code, int bits) {{
  char* taken = scratch;
  scratch += ALIGNED(bytes);
  return taken;
}}

static int give(int device, int number, void* taken) {{ /* in the reverse order */
  scratch = taken;
  return 0;
}}

/* The generated code has weak ones of these, and weak functions: hidden, since they are referred to as such. */
__asm__(
    ".weak __extendhfsf2\\n.hidden __extendhfsf2\\n.weak __truncsfhf2\\n.hidden __truncsfhf2\\n"
    ".section .fastconv.hidden,\\"\\",%progbits\\n.quad __extendhfsf2\\n.quad __truncsfhf2\\n.text\\n");
HIDDEN extern int (*const {backend}ParallelLaunch)(function, void*, int);
HIDDEN extern void* (*const {backend}AllocWorkspace)(int, int, uint64_t, int, int);
HIDDEN extern int (*const {backend}FreeWorkspace)(int, int, void*);
int (*const {backend}ParallelLaunch)(function, void*, int) = launch;
void* (*const {backend}AllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*const {backend}FreeWorkspace)(int, int, void*) = give;
"""

_WEIGHTS = """
extern const char {name}_weights[] HIDDEN;
__asm__(
    ".section .rodata.{name},\\"a\\",%progbits\\n.balign {alignment}\\n"
    ".globl {name}_weights\\n.hidden {name}_weights\\n{name}_weights:\\n.incbin \\"{file}\\"\\n.text\\n");
"""

_ENTRY = """
EXPORT size_t {name}_workspace_bytes(const fastconv_pool* pool) {{
  return PLANNED + (size_t)SCRATCH * (pool && pool->threads > 1 ? pool->threads - 1 : 0);
}}

EXPORT fastconv_status {name}_run({weights_parameter}const {name}_inputs* inputs, const {name}_outputs* outputs,
    void* workspace, size_t workspace_bytes, const fastconv_pool* pool) {{
  if (!inputs || !outputs || (pool && (!pool->run || pool->threads < 1))) return FASTCONV_NULL;
  const char* in[] = {{{inputs}}};
  char* out[] = {{{outputs}}};
  const void* all[] = {{{all}}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {{
    if (!all[i]) return FASTCONV_NULL;
    if ((uintptr_t)all[i] % FASTCONV_ALIGNMENT) return FASTCONV_UNALIGNED;
  }}
  if (workspace_bytes < {name}_workspace_bytes(pool)) return FASTCONV_SMALL_WORKSPACE;
  const fastconv_pool* outer_threads = threads;
  char *outer_further = further, *outer_scratch = scratch;
  threads = pool;
  further = (char*)workspace + PLANNED;
  int status = run(in, out, {weights}, workspace);
  threads = outer_threads;
  further = outer_further;
  scratch = outer_scratch;
  return status ? FASTCONV_FAILED : FASTCONV_OK;
}}
"""


class CSource:
    """A network's C source and header.

    Parameters
    ----------
    name
        What all its names begin with, an identifier of C.
    inputs, outputs
        Tensors of fixed shapes.
    separate_weights
        Whether the weights are no part of the library, but given to every call.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        separate_weights: bool,
    ) -> None:
        self._name, self._inputs, self._outputs = name, inputs, outputs
        self._separate = separate_weights
        self._members = [members(specs) for specs in (inputs, outputs)]

    def header(self, version: str, target: str) -> str:
        """``NAME.h``."""
        upper = self._name.upper()
        macros, declared = [], []
        for kind, specs, names in zip(
            ("INPUT", "OUTPUT"), (self._inputs, self._outputs), self._members, strict=True
        ):
            macros.append(f"#define {upper}_{kind}S {len(specs)}\n")
            lines = []
            for i, (spec, member) in enumerate(zip(specs, names, strict=True)):
                head = f"#define {upper}_{kind}_{i}"
                macros += [
                    f'{head}_NAME "{_quoted(spec.name)}"\n',
                    f'{head}_DTYPE "{spec.dtype}"\n',
                    f"{head}_TYPE {C_TYPES[spec.dtype]}\n",
                    f"{head}_RANK {len(spec.shape)}\n",
                    f"{head}_SHAPE {{{', '.join(map(str, spec.shape)) or '0'}}}\n",
                    f"{head}_BYTES {port_bytes(spec)}\n",
                ]
                const = "const " if kind == "INPUT" else ""
                lines.append(
                    f"  {const}{C_TYPES[spec.dtype]}* {member}; /* {' x '.join(map(str, spec.shape))} */\n"
                )
            declared.append("".join(lines) or "  char unused;\n")
        return _HEADER.format(
            name=self._name,
            upper=upper,
            version=version,
            target=target,
            alignment=ALIGNMENT,
            macros="".join(macros),
            input_members=declared[0],
            output_members=declared[1],
            weights_parameter=self._weights_parameter(),
        )

    def source(
        self,
        line: StraightLine,
        weights: Sequence[StoredTensor],
        weights_file: str,
        scratch_bytes: int,
        kernel_prefix: str,
    ) -> str:
        """``NAME.c``, for `weights` that lie in ``weights_file`` beside it."""
        name, parts = self._name, []
        parts.append(
            _BACKEND.format(
                name=name,
                backend=backend_prefix(name),
                planned=max(line.workspace_bytes, ALIGNMENT),
                scratch=scratch_bytes,
            )
        )
        if weights and not self._separate:
            parts.append(_WEIGHTS.format(name=name, alignment=ALIGNMENT, file=weights_file))
        parts.append("\n" + run_source(line, weights, kernel_prefix))
        inputs = [f"(const char*)inputs->{member}" for member in self._members[0]]
        outputs = [f"(char*)outputs->{member}" for member in self._members[1]]
        where = "weights" if self._separate else f"{name}_weights" if weights else "0"
        given = [*inputs, *outputs, "workspace", *(["weights"] if self._separate else [])]
        parts.append(
            _ENTRY.format(
                name=name,
                inputs=", ".join(inputs or ["0"]),
                outputs=", ".join(outputs),
                all=", ".join(given),
                weights=where,
                weights_parameter=self._weights_parameter(),
            )
        )
        return "".join(parts)

    def _weights_parameter(self) -> str:
        return "const void* weights, " if self._separate else ""


def members(specs: Sequence[TensorSpec]) -> list[str]:
    """Identifiers of C for tensors, each another one, as like their names as can be."""
    taken: dict[str, None] = {}
    for spec in specs:
        plain = re.sub(r"\W", "_", spec.name, flags=re.ASCII) or "_"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        plain = f"{plain}_" if plain in _KEYWORDS else plain
        number, candidate = 2, plain
        while candidate in taken:
            number, candidate = number + 1, f"{plain}_{number}"
        taken[candidate] = None
    return list(taken)


def backend_prefix(name: str) -> str:
    """What the names of a library's own runtime pointers begin with: as long as TVM's, ``__TVMBackend``."""
    return "fc" + hashlib.sha256(name.encode()).hexdigest()[:10]


def is_c_name(name: str) -> bool:
    """Whether a library may be called so."""
    taken = {*_KEYWORDS, "main", "std"}
    return re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) is not None and name not in taken


def _quoted(text: str) -> str:
    """``text`` inside of a string of C; names come from files, and C has more than one way to end a string."""
    plain = re.compile(rb"[A-Za-z0-9_ .:/-]")
    return "".join(
        chr(byte) if plain.match(bytes([byte])) else f"\\{byte:03o}" for byte in text.encode(errors="replace")
    )
