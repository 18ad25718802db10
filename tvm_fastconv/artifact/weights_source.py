"""The C source that puts weights, manifest and reference pair into a compiled file's sections.

It exports ``fastconv_weight`` in TVM's calling convention: number of a weight → tensor over the mapped memory. The
tensor is made anew on each call, which is quicker than a lock and leaves no state to clean up when the file is closed.
"""

import re
from collections.abc import Sequence
from math import prod

from ..report import ITEM_BYTES, StoredTensor
from .artifact import MANIFEST_SECTION, REFERENCE_SECTION, WEIGHTS_SECTION

WEIGHTS_FILE, MANIFEST_FILE, REFERENCE_FILE = "weights.bin", "manifest.json", "reference.bin"
"""Names of the files that the assembler takes the sections' bytes from, in its current folder."""

_DTYPE_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}  # DLDataTypeCode

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
    ".globl fastconv_weights\\n.hidden fastconv_weights\\nfastconv_weights:\\n.incbin \\"weights.bin\\"\\n.text\\n");
extern char fastconv_weights[] __attribute__((visibility("hidden")));

static int64_t sizes[] = {{{sizes}}};

#define WEIGHT(offset, at, rank, code, bits)                             \\
  {{{{fastconv_weights + (offset), {{kDLCPU, 0}}, rank, {{code, bits, 1}}, \\
    sizes + (at), sizes + (at) + (rank), 0}}, 0, 0}}
static DLManagedTensor weights[] = {{
{rows}}};

__attribute__((visibility("default"))) int __tvm_ffi_fastconv_weight(
    void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {{
  const int64_t count = sizeof(weights) / sizeof(weights[0]);
  TVMFFIObjectHandle tensor;
  if (num_args != 1 || args[0].type_index != kTVMFFIInt || args[0].v_int64 < 0 || args[0].v_int64 >= count) {{
    TVMFFIErrorSetRaisedFromCStr("ValueError", "fastconv_weight takes the number of a weight");
    return -1;
  }}
  if (TVMFFITensorFromDLPack(&weights[args[0].v_int64], 0, 0, &tensor) != 0) return -1;
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
        code = _DTYPE_CODES[re.sub(r"\d+", "", weight.dtype)]
        bits = 8 * ITEM_BYTES[weight.dtype]
        rows.append(f"  WEIGHT({weight.offset}, {len(sizes)}, {len(weight.shape)}, {code}, {bits}),\n")
        # Shape, then strides in elements.
        sizes += [*weight.shape, *(prod(weight.shape[i + 1 :]) for i in range(len(weight.shape)))]
    return source + _WEIGHTS.format(
        section=WEIGHTS_SECTION, sizes=", ".join(map(str, sizes)), rows="".join(rows)
    )
