"""The C source and the header of a network as a C library: free of TVM, of allocation and of global state.

What TVM's generated code calls of a runtime, it calls through pointers. Here they lead to a few lines that hand tasks
to the caller's threads, and memory out of the caller's workspace; what they have to know of a call is in thread-local
variables while it runs.
"""

import hashlib
from collections.abc import Sequence

from tvm_fastconv.relay_passes.module.straight_line import StraightLine

from ..report import ALIGNMENT, StoredTensor, TensorSpec
from .c_header import library_header, weights_parameter
from .c_names import members
from .entry_source import run_source

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
    ".section .fastconv.hidden,\\"\\",%progbits\\n.dc.a __extendhfsf2\\n.dc.a __truncsfhf2\\n.text\\n");
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

_WEIGHTS_CHECK = """
  static const unsigned char id[] = {{{id}}};
  for (size_t i = 0; i < sizeof(id); i++)
    if (((const unsigned char*)weights)[i] != id[i]) return FASTCONV_OTHER_WEIGHTS;"""

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
  if (workspace_bytes < {name}_workspace_bytes(pool)) return FASTCONV_SMALL_WORKSPACE;{check}
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
    weights_id
        What the weights begin with, in `ALIGNMENT` bytes, where they are no part of the library, but given to every
        call; else nothing.
    weights_bytes
        Size of the file that holds them then.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        weights_id: bytes = b"",
        weights_bytes: int = 0,
    ) -> None:
        self._name, self._inputs, self._outputs = name, inputs, outputs
        self._id, self._weights_bytes = weights_id, weights_bytes
        self._members = [members(specs) for specs in (inputs, outputs)]

    def header(self, version: str, target: str) -> str:
        """``NAME.h``."""
        return library_header(self._name, self._inputs, self._outputs, self._weights_bytes, version, target)

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
        if weights and not self._id:
            parts.append(_WEIGHTS.format(name=name, alignment=ALIGNMENT, file=weights_file))
        parts.append("\n" + run_source(line, weights, kernel_prefix))
        inputs = [f"(const char*)inputs->{member}" for member in self._members[0]]
        outputs = [f"(char*)outputs->{member}" for member in self._members[1]]
        where = f"(const char*)weights + {ALIGNMENT}" if self._id else f"{name}_weights" if weights else "0"
        given = [*inputs, *outputs, "workspace", *(["weights"] if self._id else [])]
        parts.append(
            _ENTRY.format(
                name=name,
                inputs=", ".join(inputs or ["0"]),
                outputs=", ".join(outputs),
                all=", ".join(given),
                weights=where,
                weights_parameter=weights_parameter(bool(self._id)),
                check=_WEIGHTS_CHECK.format(id=", ".join(map(str, self._id))) if self._id else "",
            )
        )
        return "".join(parts)


def backend_prefix(name: str) -> str:
    """What the names of a library's own runtime pointers begin with: as long as TVM's, ``__TVMBackend``."""
    return "fc" + hashlib.sha256(name.encode()).hexdigest()[:10]
