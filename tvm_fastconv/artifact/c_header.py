"""The header of a network as a C library."""

import re
from collections.abc import Sequence

from ..report import ALIGNMENT, TensorSpec
from .c_names import members
from .entry_source import port_bytes

C_TYPES = {
    "bool": "uint8_t",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "float32": "float",
    "float64": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Of an element."""

POOL_HEADER = """\
#ifndef FASTCONV_POOL
#define FASTCONV_POOL
/* Threads of the caller's. run(context, task, job, count) calls task(job, i) once for each i from 0 to count - 1, on
   any threads, and returns when all have returned: 0, or what a task returned that was not 0. */
typedef struct {
  int (*run)(void* context, int (*task)(void* job, int i), void* job, int count);
  void* context;
  int threads; /* the most tasks that one call makes */
} fastconv_pool;

typedef enum {
  FASTCONV_OK = 0,
  FASTCONV_NULL = 1,            /* a pointer is NULL, or a pool has no threads */
  FASTCONV_UNALIGNED = 2,       /* an address is no multiple of FASTCONV_ALIGNMENT */
  FASTCONV_SMALL_WORKSPACE = 3, /* smaller than the library's NAME_workspace_bytes(pool) */
  FASTCONV_FAILED = 4,          /* the pool's run did not return 0 */
  FASTCONV_OTHER_WEIGHTS = 5    /* not those that were written with this library */
} fastconv_status;

#define FASTCONV_ALIGNMENT ALIGNMENT_BYTES /* bytes, of tensors, workspace and weights */
#endif
""".replace("ALIGNMENT_BYTES", str(ALIGNMENT))
"""What libraries say of their caller's threads."""

_HEADER = """\
/* {name}: a network, compiled by tvm-fastconv {version} for {target}. */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{pool}
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


def library_header(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    weights_bytes: int,
    version: str,
    target: str,
) -> str:
    """``NAME.h``, of a network with tensors of fixed shapes, made by ``version`` for ``target``.

    ``weights_bytes`` is the size of the file of its weights, where they lie apart, else 0.
    """
    upper = name.upper()
    macros, declared = [], []
    if weights_bytes:
        macros.append(
            f"#define {upper}_WEIGHTS_BYTES {weights_bytes} /* of {name}.weights, as a whole in memory, aligned */\n"
        )
    for kind, specs, names in zip(
        ("INPUT", "OUTPUT"), (inputs, outputs), map(members, (inputs, outputs)), strict=True
    ):
        macros.append(f"#define {upper}_{kind}S {len(specs)}\n")
        lines = []
        for i, (spec, member) in enumerate(zip(specs, names, strict=True)):
            head = f"#define {upper}_{kind}_{i}"
            macros += [
                f'{head}_NAME "{c_string(spec.name)}"\n',
                f'{head}_DTYPE "{spec.dtype}"\n',
                f"{head}_TYPE {C_TYPES[spec.dtype]}\n",
                f"{head}_RANK {len(spec.shape)}\n",
                f"{head}_SHAPE {{{', '.join(map(str, spec.shape)) or '0'}}}\n",
                f"{head}_BYTES {port_bytes(spec)}\n",
            ]
            const = "const " if kind == "INPUT" else ""
            lines.append(
                f"  {const}{C_TYPES[spec.dtype]}* {member}; /* {' x '.join(map(str, spec.shape)) or 'a scalar'} */\n"
            )
        declared.append("".join(lines) or "  char unused;\n")
    return _HEADER.format(
        name=name,
        upper=upper,
        version=version,
        target=target,
        pool=POOL_HEADER,
        macros="".join(macros),
        input_members=declared[0],
        output_members=declared[1],
        weights_parameter=weights_parameter(weights_bytes > 0),
    )


def weights_parameter(separate_weights: bool) -> str:
    """Of the run function, where the weights are no part of the library."""
    return "const void* weights, " if separate_weights else ""


def c_string(text: str) -> str:
    """``text`` as it stands inside of a string of C, which has more than one way to end."""
    plain = re.compile(rb"[A-Za-z0-9_ .:/-]")
    return "".join(
        chr(byte) if plain.match(bytes([byte])) else f"\\{byte:03o}" for byte in text.encode(errors="replace")
    )
