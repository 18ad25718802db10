"""The C source of the entry function: a network's kernels, called in order on planned memory.

`run_source` is what a file for TVM's runtime and a C library share. `calls_source` adds the two ways in that a file for
TVM's runtime has: ``fastconv_run``, which takes tensors, and each kernel alone, for the virtual machine.
"""

import re
from collections.abc import Iterable, Sequence
from math import prod

from tvm_fastconv.relay_passes.module.straight_line import Place, StraightLine

from ..report import ALIGNMENT, ITEM_BYTES, StoredTensor, TensorSpec
from ..runtime.entry import RUN_FUNCTION, WORKSPACE_FUNCTION

_DTYPE_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
"""DLDataTypeCode."""

_RUN = """\
{declarations}
/* 0, or not where a kernel could not start its threads. */
static int run(const char* const* in, char* const* out, const char* weights, char* workspace) {{
{calls}{copies}  return 0;
}}
"""

_TENSORS = """\
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static const DLTensor* tensor_of(const TVMFFIAny* arg) {{
  /* A tensor is an object that a DLTensor lies behind. */
  return arg->type_index == kTVMFFITensor ? (const DLTensor*)(arg->v_obj + 1) : (const DLTensor*)arg->v_ptr;
}}

static char* data_of(const TVMFFIAny* arg) {{
  const DLTensor* tensor = tensor_of(arg);
  return (char*)tensor->data + tensor->byte_offset;
}}

static int failed(void) {{
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", "a kernel could not start its threads, or had no memory");
  return -1;
}}

#define KERNEL(name, ...) \\
  EXPORT int __tvm_ffi_##name(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{ \\
    return {prefix}##name(__VA_ARGS__) ? failed() : 0; \\
  }}
{kernels}"""

_CALL = """\
struct port {{ size_t bytes; const int64_t* shape; int32_t rank; DLDataType dtype; }};
static const int64_t port_sizes[] = {{{sizes}}};
static const struct port ports[] = {{
{ports}}};

/* Memory of a tensor that is what its port says; else NULL. */
static char* memory_of(const TVMFFIAny* arg, const struct port* port) {{
  if (arg->type_index != kTVMFFITensor && arg->type_index != kTVMFFIDLTensorPtr) return 0;
  const DLTensor* tensor = tensor_of(arg);
  if (tensor->device.device_type != kDLCPU || tensor->ndim != port->rank || tensor->dtype.code != port->dtype.code ||
      tensor->dtype.bits != port->dtype.bits || tensor->dtype.lanes != 1)
    return 0;
  int64_t stride = 1;
  for (int32_t i = port->rank; i-- > 0; stride *= port->shape[i]) {{
    if (tensor->shape[i] != port->shape[i]) return 0;
    if (tensor->strides && port->shape[i] != 1 && tensor->strides[i] != stride) return 0;
  }}
  return tensor->data ? (char*)tensor->data + tensor->byte_offset : 0;
}}

EXPORT int __tvm_ffi_{function}(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{
  enum {{ INPUTS = {inputs}, PORTS = {inputs} + {outputs} }};
  char *given[PORTS], *at[PORTS];
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = 1;
  if (num_args != PORTS + 1 || args[PORTS].type_index != kTVMFFIInt) return 0;
  char* workspace = (char*)args[PORTS].v_int64;
  char* aligned = workspace + {planned};
  for (int i = 0; i < PORTS; i++) {{
    at[i] = given[i] = memory_of(&args[i], &ports[i]);
    if (!given[i]) return 0;
    if ((uintptr_t)given[i] % {alignment}) at[i] = aligned;
    aligned += (ports[i].bytes + {alignment} - 1) / {alignment} * {alignment};
  }}
  for (int i = 0; i < INPUTS; i++)
    if (at[i] != given[i]) memcpy(at[i], given[i], ports[i].bytes);
  if (run((const char* const*)at, at + INPUTS, {weights}, workspace)) return failed();
  for (int i = INPUTS; i < PORTS; i++)
    if (at[i] != given[i]) memcpy(given[i], at[i], ports[i].bytes);
  result->v_int64 = 0;
  return 0;
}}

EXPORT int __tvm_ffi_{workspace_function}(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = {workspace_bytes};
  return 0;
}}
"""


def run_source(
    line: StraightLine, weights: Sequence[StoredTensor], prefix: str, traced: Sequence[int] = ()
) -> str:
    """``run(inputs, outputs, weights, workspace)`` in C, by kernels whose names begin with ``prefix``.

    Where buffers of kernels lie in the workspace, the variable ``scratch`` is set to where. With ``traced``, the bytes
    that each call writes, ``keep(memory, bytes)`` is called after each.
    """

    def pointer(place: Place) -> str:
        offset = weights[place.at].offset if place.kind == "weight" else place.at
        source = {
            "input": f"in[{place.at}]",
            "output": f"out[{place.at}]",
            "weight": f"weights + {offset}",
            "workspace": f"workspace + {offset}",
        }
        return source[place.kind]

    counts = {call.function: len(call.arguments) for call in line.calls}
    declared = "".join(
        f'__attribute__((visibility("hidden"))) int {prefix}{name}({", ".join(["const void*"] * count)});\n'
        for name, count in counts.items()
    )
    calls = "".join(
        ("" if call.scratch is None else f"  scratch = workspace + {call.scratch};\n")
        + f"  if ({prefix}{call.function}({', '.join(map(pointer, call.arguments))})) return -1;\n"
        + (f"  keep({pointer(call.arguments[-1])}, {size});\n" if traced else "")
        for call, size in zip(line.calls, traced or [0] * len(line.calls), strict=True)
    )
    copies = "".join(
        f"  __builtin_memcpy(out[{output}], {pointer(place)}, {size});\n"
        for place, output, size in line.copies
    )
    return _RUN.format(declarations=declared, calls=calls, copies=copies)


def calls_source(
    line: StraightLine,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    prefix: str,
    weights: str,
) -> str:
    """What TVM's runtime calls: `RUN_FUNCTION`, `WORKSPACE_FUNCTION`, and each kernel under its own name.

    ``weights`` is where the weights begin.
    """
    counts = {call.function: len(call.arguments) for call in line.calls}
    kernels = "".join(
        f"KERNEL({name}, {', '.join(f'data_of(args + {i})' for i in range(count))})\n"
        for name, count in counts.items()
    )
    ports: list[str] = []
    sizes: list[int | str] = []
    for spec in (*inputs, *outputs):
        bits = 8 * ITEM_BYTES[spec.dtype]
        rank, dtype = len(spec.shape), f"{{{dtype_code(spec.dtype)}, {bits}, 1}}"
        ports.append(f"  {{{port_bytes(spec)}, port_sizes + {len(sizes)}, {rank}, {dtype}}},\n")
        sizes += spec.shape
    return _TENSORS.format(prefix=prefix, kernels=kernels) + _CALL.format(
        sizes=", ".join(map(str, sizes or [0])),
        ports="".join(ports),
        function=RUN_FUNCTION,
        workspace_function=WORKSPACE_FUNCTION,
        workspace_bytes=call_workspace_bytes(line, (*inputs, *outputs)),
        inputs=len(inputs),
        outputs=len(outputs),
        planned=line.workspace_bytes,
        alignment=ALIGNMENT,
        weights=weights,
    )


def call_workspace_bytes(line: StraightLine, specs: Iterable[TensorSpec]) -> int:
    """What `RUN_FUNCTION` needs: room for copies of all tensors that are not aligned, too."""
    return line.workspace_bytes + sum(-(-port_bytes(spec) // ALIGNMENT) * ALIGNMENT for spec in specs)


def port_bytes(spec: TensorSpec) -> int:
    """Of an input or output of fixed shape."""
    return prod(map(int, spec.shape)) * ITEM_BYTES[spec.dtype]


def dtype_code(dtype: str) -> int:
    """As DLPack numbers kinds of types."""
    return _DTYPE_CODES[re.sub(r"\d+", "", dtype)]
