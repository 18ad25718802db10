/* One inference of the network NET between two marks that count_blocks.c knows, in the folder of its kit. The answer, of
   floats, is compared with the kit's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net.h"

static void* aligned(size_t bytes) {
  void* memory = NULL;
  if (posix_memalign(&memory, FASTCONV_ALIGNMENT, bytes + 1)) exit(2);
  return memory;
}

static void* read_file(const char* path, size_t bytes) {
  void* data = aligned(bytes);
  FILE* file = fopen(path, "rb");
  if (!file || fread(data, 1, bytes, file) != bytes) exit(2);
  return data;
}

static int is_right(const float* got, const float* want, size_t count) {
  float largest = 0, difference = 0;
  for (size_t i = 0; i < count; i++) {
    largest = fmaxf(largest, fabsf(want[i]));
    difference = fmaxf(difference, isnan(got[i]) ? INFINITY : fabsf(got[i] - want[i]));
  }
  return difference <= 1e-4f * largest;
}

int main(void) {
  void* x = read_file("reference/input_0.bin", NET_INPUT_0_BYTES);
  void* tensors[] = {x, aligned(NET_OUTPUT_0_BYTES), aligned(net_workspace_bytes(NULL))};
  for (int call = 0; call < 2; call++) { /* the first warms the emulator up */
    if (call) getppid();
    if (net_run((void*)&tensors[0], (void*)&tensors[1], tensors[2], net_workspace_bytes(NULL), NULL)) return 2;
  }
  getppid();
  const float* want = read_file("reference/output_0.bin", NET_OUTPUT_0_BYTES);
  return is_right(tensors[1], want, NET_OUTPUT_0_BYTES / sizeof(float)) ? 0 : 3;
}
