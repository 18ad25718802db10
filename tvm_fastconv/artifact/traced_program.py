"""A program that runs a network's kernels in order and writes what each computes: for an emulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_fastconv.relay_passes.module.straight_line import StraightLine

from ..report import ALIGNMENT, StoredTensor, TensorSpec
from .c_compiler import CCompiler
from .entry_source import port_bytes, run_source
from .weights_source import WEIGHTS_FILE

PROGRAM = "traced"

KERNEL_FAILED = 4
"""Its exit code where a kernel says that it failed; 3 is of files and memory."""

_SOURCE = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char* allocate(size_t bytes) {{
  void* memory = NULL;
  if (posix_memalign(&memory, {alignment}, bytes ? bytes : 1)) exit(3);
  return memset(memory, 0xFF, bytes); /* NaN: what reads before something is written there must not look right */
}}

/* What generated code calls of a runtime. */
struct environment {{ void* unused; int32_t tasks; }};
typedef int (*function)(int, struct environment*, void*);

static int launch(function call, void* data, int tasks) {{
  struct environment alone = {{NULL, 1}};
  return call(0, &alone, data);
}}
static void* take(int device, int number, uint64_t bytes, int code, int bits) {{ return allocate(bytes); }}
static int give(int device, int number, void* taken) {{
  free(taken);
  return 0;
}}
int (*__TVMBackendParallelLaunch)(function, void*, int) = launch;
void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = give;

static FILE* traced;
static void keep(const void* memory, size_t bytes) {{
  if (fwrite(memory, 1, bytes, traced) != bytes) exit(3);
}}

{weights}
{run}
static void each_file(char** paths, char* const* memory, const size_t* bytes, int count, const char* mode) {{
  for (int i = 0; i < count; i++) {{
    FILE* file = fopen(paths[i], mode);
    size_t done = !file ? 0 : *mode == 'r' ? fread(memory[i], 1, bytes[i], file) : fwrite(memory[i], 1, bytes[i], file);
    if (!file || done != bytes[i] || fclose(file)) exit(3);
  }}
}}

/* INPUT... OUTPUT... TRACE */
int main(int count, char** arguments) {{
  enum {{ INPUTS = {inputs}, PORTS = {ports} }};
  static const size_t bytes[] = {{{bytes}}};
  char* memory[PORTS];
  for (int i = 0; i < PORTS; i++) memory[i] = allocate(bytes[i]);
  if (count != PORTS + 2 || !(traced = fopen(arguments[PORTS + 1], "wb"))) return 3;
  each_file(arguments + 1, memory, bytes, INPUTS, "rb");
  if (run((const char* const*)memory, memory + INPUTS, {start}, allocate({workspace}))) return {failed};
  each_file(arguments + 1 + INPUTS, memory + INPUTS, bytes + INPUTS, PORTS - INPUTS, "wb");
  return fclose(traced) ? 3 : 0;
}}
"""

_WEIGHTS = """\
__asm__(".section .rodata\\n.balign {alignment}\\nweights_of_all:\\n.incbin \\"{file}\\"\\n.text\\n");
extern const char weights_of_all[];
"""


def link_traced_program(
    line: StraightLine,
    weights: Sequence[StoredTensor],
    kernels: str,
    prefix: str,
    ports: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    result_bytes: Sequence[int],
    folder: Path,
    compiler: CCompiler,
) -> Path:
    """Link ``PROGRAM INPUT... OUTPUT... TRACE``, which reads and writes raw files, in ``folder``.

    Parameters
    ----------
    line, weights
        Of the network; the weights' data lies in ``folder`` as `WEIGHTS_FILE`.
    kernels, prefix
        The object file there that holds its kernels, and what their names begin with.
    ports
        Inputs and outputs.
    result_bytes
        What each call of ``line`` writes: so much comes into TRACE.

    Raises
    ------
    TargetError
        The compiler links no static programs.
    """
    specs = [*ports[0], *ports[1]]
    source = _SOURCE.format(
        alignment=ALIGNMENT,
        weights=_WEIGHTS.format(file=WEIGHTS_FILE, alignment=ALIGNMENT) if weights else "",
        start="weights_of_all" if weights else "NULL",
        run=run_source(line, weights, prefix, result_bytes),
        inputs=len(ports[0]),
        ports=len(specs),
        bytes=", ".join(str(port_bytes(spec)) for spec in specs),
        failed=KERNEL_FAILED,
        workspace=max(line.workspace_bytes, ALIGNMENT),
    )
    (folder / f"{PROGRAM}.c").write_text(source)
    compiler.compile(folder, f"{PROGRAM}.c", f"{PROGRAM}.o")
    compiler.link_program(folder, [f"{PROGRAM}.o", kernels], PROGRAM)
    return folder / PROGRAM
