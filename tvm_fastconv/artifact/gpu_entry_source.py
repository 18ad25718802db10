"""The C source of a GPU's entry function: the host's functions that launch a network's kernels, in order.

They are TVM's, which take tensors of fixed shapes; only where those lie is said anew by each run. Memory that functions
want for themselves is planned as well, since a CUDA graph of a run keeps every address: while it runs, TVM's two
pointers to what gives out such memory are set to what hands out the planned one.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod

import tvm
from tvm import tirx
from tvm_ffi import structural_walk

from tvm_fastconv.relay_passes.module.plan_memory import ALIGNMENT
from tvm_fastconv.relay_passes.module.straight_line import Place, StraightLine

from ..report import ITEM_BYTES, StoredTensor
from ..runtime.gpu_entry import RUN_ON_GPU_FUNCTION
from .entry_source import dtype_code

_SOURCE = """\
#include <stddef.h>
#include <stdint.h>

struct argument {{ int32_t base; int64_t offset; int32_t rank; const int64_t* shape; DLDataType dtype; }};
struct call {{
  int (*function)(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);
  int32_t count;
  const struct argument* arguments;
  int64_t scratch, scratch_bytes;
}};

{declarations}
static const int64_t argument_sizes[] = {{{sizes}}};
static const struct argument arguments[] = {{
{arguments}}};
static const struct call calls[] = {{
{calls}}};

/* Not there where no function asks for memory. */
extern void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) __attribute__((weak));
extern int (*__TVMBackendFreeWorkspace)(int, int, void*) __attribute__((weak));

static char *scratch, *scratch_end;

static void* take_scratch(int device_type, int device_id, uint64_t bytes, int code, int bits) {{
  uint64_t whole = (bytes + {alignment} - 1) / {alignment} * {alignment};
  if (whole > (uint64_t)(scratch_end - scratch)) return NULL;
  char* taken = scratch;
  scratch += whole;
  return taken;
}}

static int give_scratch(int device_type, int device_id, void* memory) {{ return 0; }}

static int run(char* const* bases) {{
  enum {{ MOST = {most} }};
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {{
    DLTensor tensors[MOST];
    TVMFFIAny given[MOST], result = {{0}};
    for (int32_t k = 0; k < calls[i].count; k++) {{
      const struct argument* argument = &calls[i].arguments[k];
      tensors[k] = (DLTensor){{bases[argument->base] + argument->offset, {{kDLCUDA, 0}}, argument->rank,
                              argument->dtype, (int64_t*)argument->shape, NULL, 0}};
      given[k] = (TVMFFIAny){{0}};
      given[k].type_index = kTVMFFIDLTensorPtr;
      given[k].v_ptr = &tensors[k];
    }}
    scratch = bases[{workspace}] + calls[i].scratch;
    scratch_end = scratch + calls[i].scratch_bytes;
    if (calls[i].function(NULL, given, calls[i].count, &result)) return -1;
  }}
  return 0;
}}

__attribute__((visibility("default"))) int __tvm_ffi_{function}(
    void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{
  char* bases[{bases}];
  if (num_args != {bases}) {{
    TVMFFIErrorSetRaisedFromCStr("ValueError", "{function} takes {bases} addresses");
    return -1;
  }}
  for (int32_t i = 0; i < num_args; i++) bases[i] = (char*)(intptr_t)args[i].v_int64;
  void* (*take)(int, int, uint64_t, int, int) = NULL;
  int (*give)(int, int, void*) = NULL;
  if (&__TVMBackendAllocWorkspace) {{
    take = __TVMBackendAllocWorkspace;
    give = __TVMBackendFreeWorkspace;
    __TVMBackendAllocWorkspace = take_scratch;
    __TVMBackendFreeWorkspace = give_scratch;
  }}
  int status = run(bases);
  if (take) {{
    __TVMBackendAllocWorkspace = take;
    __TVMBackendFreeWorkspace = give;
  }}
  result->type_index = kTVMFFINone;
  return status;
}}
"""


def scratch_on_gpu(mod: tvm.IRModule) -> dict[str, int]:
    """What functions of fixed shapes want for themselves in the GPU's memory, by their names: between their kernels."""
    functions = {
        var.name_hint: func for var, func in mod.functions.items() if isinstance(func, tirx.PrimFunc)
    }
    return {name: size for name, func in functions.items() if (size := _scratch_bytes(func))}


def _scratch_bytes(func: tirx.PrimFunc) -> int:
    sizes: list[int] = []

    def note(block: tvm.s_tir.SBlock) -> None:
        for buffer in block.alloc_buffers:
            fixed = all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)
            if buffer.scope() == "global" and fixed:
                elements = prod(int(extent) for extent in buffer.shape)
                sizes.append(-(-elements * tvm.DataType(str(buffer.dtype)).itemsize // ALIGNMENT) * ALIGNMENT)

    structural_walk(func.body, (tvm.s_tir.SBlock, note))
    return sum(sizes)


def gpu_entry_source(
    line: StraightLine,
    functions: Mapping[str, tirx.PrimFunc],
    weights: Sequence[StoredTensor],
    scratch_bytes: Mapping[str, int],
    inputs: int,
    outputs: int,
) -> str:
    """`RUN_ON_GPU_FUNCTION` in C, which goes behind what `weights_source` returns.

    Parameters
    ----------
    functions
        Those that ``line`` calls, by their names, with the shapes of what they take.
    inputs, outputs
        How many there are.
    """

    def base(place: Place) -> tuple[int, int]:
        """Which of the addresses, and how far behind it."""
        if place.kind == "input":
            return place.at, 0
        if place.kind == "output":
            return inputs + place.at, 0
        if place.kind == "weight":
            return inputs + outputs, weights[place.at].offset
        return inputs + outputs + 1, place.at

    rows: list[str] = []
    sizes: list[int] = []
    for call in line.calls:
        for place, buffer in zip(call.arguments, functions[call.function].params, strict=True):
            shape, dtype = [int(extent) for extent in buffer.shape], str(buffer.dtype)
            number, offset = base(place)
            kind = f"{{{dtype_code(dtype)}, {8 * ITEM_BYTES[dtype]}, 1}}"
            rows.append(f"  {{{number}, {offset}, {len(shape)}, argument_sizes + {len(sizes)}, {kind}}},\n")
            sizes += shape
    counts = [len(call.arguments) for call in line.calls]
    starts = accumulate(counts, initial=0)
    calls = [
        f"  {{__tvm_ffi_{call.function}, {count}, arguments + {start}, {call.scratch or 0}, "
        f"{scratch_bytes.get(call.function, 0)}}},\n"
        for call, count, start in zip(line.calls, counts, starts, strict=False)
    ]
    declared = dict.fromkeys(
        f"int __tvm_ffi_{call.function}(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);\n"
        for call in line.calls
    )
    return _SOURCE.format(
        declarations="".join(declared),
        sizes=", ".join(map(str, sizes or [0])),
        arguments="".join(rows),
        calls="".join(calls),
        most=max(counts),
        alignment=ALIGNMENT,
        workspace=inputs + outputs + 1,
        bases=inputs + outputs + 2,
        function=RUN_ON_GPU_FUNCTION,
    )
