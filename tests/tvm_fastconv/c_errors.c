/* Every wrong call of a C library named `net`: prints the status of each, and whether anything was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

static char *x, *y, *workspace;
static size_t bytes;

static int nothing(void* context, int (*task)(void*, int), void* job, int count) { return 0; }
static int failing(void* context, int (*task)(void*, int), void* job, int count) { return 1; }

static void say(const char* what, fastconv_status status) {
  int written = 0;
  for (size_t i = 0; i < NET_OUTPUT_0_BYTES; i++) written |= y[i] != 7;
  for (size_t i = 0; i < bytes; i++) written |= workspace[i] != 7;
  printf("%s %d %s\n", what, status, written ? "written" : "untouched");
}

int main(void) {
  const fastconv_pool none = {0, 0, 2}, idle = {nothing, 0, 0}, bad = {failing, 0, 2};
  bytes = net_workspace_bytes(&bad);
  x = aligned_alloc(64, 65536 + NET_INPUT_0_BYTES / 64 * 64);
  y = aligned_alloc(64, 65536 + NET_OUTPUT_0_BYTES / 64 * 64);
  workspace = aligned_alloc(64, 65536 + bytes / 64 * 64);
  memset(x, 0, NET_INPUT_0_BYTES + 64);
  memset(y, 7, NET_OUTPUT_0_BYTES + 64);
  memset(workspace, 7, bytes + 64);
  net_inputs inputs = {(const void*)x}, no_input = {0}, crooked_input = {(const void*)(x + 4)};
  net_outputs outputs = {(void*)y}, no_output = {0}, crooked_output = {(void*)(y + 32)};
  say("no-inputs", net_run(0, &outputs, workspace, bytes, 0));
  say("no-outputs", net_run(&inputs, 0, workspace, bytes, 0));
  say("null-input", net_run(&no_input, &outputs, workspace, bytes, 0));
  say("null-output", net_run(&inputs, &no_output, workspace, bytes, 0));
  say("null-workspace", net_run(&inputs, &outputs, 0, bytes, 0));
  say("crooked-input", net_run(&crooked_input, &outputs, workspace, bytes, 0));
  say("crooked-output", net_run(&inputs, &crooked_output, workspace, bytes, 0));
  say("crooked-workspace", net_run(&inputs, &outputs, workspace + 1, bytes, 0));
  say("small-workspace", net_run(&inputs, &outputs, workspace, net_workspace_bytes(0) - 1, 0));
  say("small-for-pool", net_run(&inputs, &outputs, workspace, net_workspace_bytes(&bad) - 1, &bad));
  say("pool-without-run", net_run(&inputs, &outputs, workspace, bytes, &none));
  say("pool-without-threads", net_run(&inputs, &outputs, workspace, bytes, &idle));
  printf("failing-pool %d\n", net_run(&inputs, &outputs, workspace, bytes, &bad));
  printf("right %d\n", net_run(&inputs, &outputs, workspace, bytes, 0));
  return 0;
}
