/* The C library's calls: a workspace, threads if there shall be some. */
#include "kit_program.h"

#include <stdio.h>
#include <stdlib.h>

#include "@name@.h"
#include "kit_pool.h"

static const fastconv_pool* pool;
static char* workspace;

int open_network(int threads) {
  if (threads > 1 && !(pool = start_pool(threads))) {
    fprintf(stderr, "%d threads cannot be started\n", threads);
    return -1;
  }
  workspace = allocate(@name@_workspace_bytes(pool));
  return 0;
}

int call_network(long batch, char** tensors) {
  const @name@_inputs inputs = {@input_members@};
  const @name@_outputs outputs = {@output_members@};
  fastconv_status status = @name@_run(&inputs, &outputs, workspace, @name@_workspace_bytes(pool), pool);
  if (status != FASTCONV_OK) fprintf(stderr, "@name@_run: status %d\n", status);
  return status;
}

void close_network(void) {
  free(workspace);
  stop_pool(pool);
}
