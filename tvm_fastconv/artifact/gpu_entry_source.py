"""The C source of a GPU's entry function: the host's functions that launch a network's kernels, in order.

They are TVM's, which take tensors of fixed shapes; only where those lie is said anew by each run. None of them takes
memory of its own (`PlanWorkspaces`): a CUDA graph of a run keeps every address.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from tvm import tirx

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
}};

{declarations}
static const int64_t argument_sizes[] = {{{sizes}}};
static const struct argument arguments[] = {{
{arguments}}};
static const struct call calls[] = {{
{calls}}};

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
  int status = run(bases);
  result->type_index = kTVMFFINone;
  return status;
}}
"""


def gpu_entry_source(
    line: StraightLine,
    functions: Mapping[str, tirx.PrimFunc],
    weights: Sequence[StoredTensor],
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
        f"  {{__tvm_ffi_{call.function}, {count}, arguments + {start}}},\n"
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
        bases=inputs + outputs + 2,
        function=RUN_ON_GPU_FUNCTION,
    )
