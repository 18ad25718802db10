"""The C source that puts weights, manifest and reference pair into a compiled file's sections.

It exports ``fastconv_weight`` in TVM's calling convention: number of a weight → tensor over the mapped memory. The
tensor is made anew on each call, which is quicker than a lock and leaves no state to clean up when the file is closed.
"""

from collections.abc import Sequence
from math import prod

from ..report import ITEM_BYTES, StoredTensor
from .artifact import MANIFEST_SECTION, REFERENCE_SECTION, WEIGHTS_SECTION
from .entry_source import dtype_code

WEIGHTS_FILE, MANIFEST_FILE, REFERENCE_FILE = "weights.bin", "manifest.json", "reference.bin"
"""Names of the files that the assembler takes the sections' bytes from, in its current folder."""

WEIGHTS_SYMBOL = "fastconv_weights"
"""Where the first weight lies."""

_HEAD = """\
#include <tvm/ffi/c_api.h>

__asm__(
    ".section {manifest},\\"\\",%progbits\\n.incbin \\"manifest.json\\"\\n"
    ".section {reference},\\"\\",%progbits\\n.incbin \\"reference.bin\\"\\n"
    ".text\\n");
"""

_WEIGHTS = """\
__asm__(
    ".section {section},\\"a\\",%progbits\\n.balign 4096\\n"
    ".globl {symbol}\\n.hidden {symbol}\\n{symbol}:\\n.incbin \\"weights.bin\\"\\n.text\\n");
extern char {symbol}[] __attribute__((visibility("hidden")));

static int64_t weight_sizes[] = {{{sizes}}};

#define WEIGHT(offset, at, rank, code, bits)                             \\
  {{{{{symbol} + (offset), {{kDLCPU, 0}}, rank, {{code, bits, 1}}, \\
    weight_sizes + (at), weight_sizes + (at) + (rank), 0}}, 0, 0}}
static DLManagedTensor weight_tensors[] = {{
{rows}}};

__attribute__((visibility("default"))) int __tvm_ffi_fastconv_weight(
    void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{
  const int64_t count = sizeof(weight_tensors) / sizeof(weight_tensors[0]);
  TVMFFIObjectHandle tensor;
  if (num_args != 1 || args[0].type_index != kTVMFFIInt || args[0].v_int64 < 0 || args[0].v_int64 >= count) {{
    TVMFFIErrorSetRaisedFromCStr("ValueError", "fastconv_weight takes the number of a weight");
    return -1;
  }}
  if (TVMFFITensorFromDLPack(&weight_tensors[args[0].v_int64], 0, 0, &tensor) != 0) return -1;
  result->type_index = kTVMFFITensor;
  result->zero_padding = 0;
  result->v_obj = (TVMFFIObject*)tensor;
  return 0;
}}
"""


def weights_source(table: Sequence[StoredTensor]) -> str:
    """Return the C source for a file with the weights of ``table``."""
    source = _HEAD.format(manifest=MANIFEST_SECTION, reference=REFERENCE_SECTION)
    if not table:
        return source
    sizes: list[int] = []
    rows = []
    for weight in table:
        code = dtype_code(weight.dtype)
        bits = 8 * ITEM_BYTES[weight.dtype]
        rows.append(f"  WEIGHT({weight.offset}, {len(sizes)}, {len(weight.shape)}, {code}, {bits}),\n")
        # Shape, then strides in elements.
        sizes += [*weight.shape, *(prod(weight.shape[i + 1 :]) for i in range(len(weight.shape)))]
    return source + _WEIGHTS.format(
        section=WEIGHTS_SECTION, symbol=WEIGHTS_SYMBOL, sizes=", ".join(map(str, sizes)), rows="".join(rows)
    )
