/* One inference of the network NET between two marks that count_blocks.c knows, in the folder of its kit. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net.h"

static void* aligned(size_t bytes) {
  void* memory = NULL;
  if (posix_memalign(&memory, FASTCONV_ALIGNMENT, bytes + 1)) exit(2);
  return memory;
}

int main(void) {
  char* x = aligned(NET_INPUT_0_BYTES);
  FILE* file = fopen("reference/input_0.bin", "rb");
  if (!file || fread(x, 1, NET_INPUT_0_BYTES, file) != NET_INPUT_0_BYTES) return 2;
  void* tensors[] = {x, aligned(NET_OUTPUT_0_BYTES), aligned(net_workspace_bytes(NULL))};
  for (int call = 0; call < 2; call++) { /* the first warms the emulator up */
    if (call) getppid();
    if (net_run((void*)&tensors[0], (void*)&tensors[1], tensors[2], net_workspace_bytes(NULL), NULL)) return 2;
  }
  getppid();
  return 0;
}
