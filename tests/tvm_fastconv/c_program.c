/* Runs a C library on the bytes of a file: NAME is the library's, UPPER its name in capitals.

   program INPUT OUTPUT [POOL [CALLERS]]: POOL threads for each call, CALLERS calls at once, whose outputs must be equal.
   Tensors and workspace are of exactly the size that the header says, with guards on both sides. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define N(suffix) CAT(NAME, suffix)
#define U(suffix) CAT(UPPER, suffix)

enum { GUARD = 256, IN = U(_INPUT_0_BYTES), OUT = U(_OUTPUT_0_BYTES), MOST = 64 };

struct share { int (*task)(void*, int); void* job; int i, status; };

static void* begin(void* data) {
  struct share* share = data;
  share->status = share->task(share->job, share->i);
  return 0;
}

/* A thread for each task, the last one first; the first task on this thread. */
static int run_tasks(void* context, int (*task)(void*, int), void* job, int count) {
  pthread_t threads[MOST];
  struct share shares[MOST];
  int status = 0;
  __atomic_add_fetch((int*)context, count, __ATOMIC_RELAXED);
  for (int i = count; --i > 0;) {
    shares[i] = (struct share){task, job, i, 0};
    pthread_create(&threads[i], 0, begin, &shares[i]);
  }
  status |= task(job, 0);
  for (int i = 1; i < count; i++) {
    pthread_join(threads[i], 0);
    status |= shares[i].status;
  }
  return status;
}

static int tasks_run;
static fastconv_pool pool = {run_tasks, &tasks_run, 1};
static const fastconv_pool* used;
static const char* input;
static const void* weights;

static char* guarded(size_t bytes) {
  char* memory = aligned_alloc(64, (bytes + 2 * GUARD + 63) / 64 * 64);
  memset(memory, 0x5a, bytes + 2 * GUARD);
  return memory + GUARD;
}

static void check(const char* memory, size_t bytes, const char* what) {
  for (int i = 0; i < GUARD; i++)
    if (memory[-1 - i] != 0x5a || memory[bytes + i] != 0x5a) {
      fprintf(stderr, "wrote outside of the %s\n", what);
      exit(3);
    }
}

static void* call(void* unused) {
  size_t bytes = N(_workspace_bytes)(used);
  char *x = guarded(IN), *y = guarded(OUT), *workspace = guarded(bytes);
  memcpy(x, input, IN);
  N(_inputs) inputs = {(const void*)x};
  N(_outputs) outputs = {(void*)y};
  for (int round = 0; round < 3; round++) {
    memset(y, 0x11, OUT);
    memset(workspace, 0xff, bytes);
    fastconv_status status = N(_run)(WEIGHTS &inputs, &outputs, workspace, bytes, used);
    if (status) {
      fprintf(stderr, "status %d\n", status);
      exit(4);
    }
  }
  check(x, IN, "input");
  check(y, OUT, "output");
  check(workspace, bytes, "workspace");
  if (memcmp(x, input, IN)) {
    fprintf(stderr, "wrote to the input\n");
    exit(5);
  }
  free(x - GUARD);
  free(workspace - GUARD);
  return y;
}

static char* read_file(const char* path, size_t bytes) {
  char* memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  FILE* file = fopen(path, "rb");
  if (!file || fread(memory, 1, bytes, file) != bytes) {
    fprintf(stderr, "cannot read %s\n", path);
    exit(6);
  }
  fclose(file);
  return memory;
}

int main(int count, char** arguments) {
  input = read_file(arguments[1], IN);
  pool.threads = count > 3 ? atoi(arguments[3]) : 0;
  used = pool.threads ? &pool : 0;
  int callers = count > 4 ? atoi(arguments[4]) : 1;
#ifdef WEIGHTS_FILE
  weights = read_file(WEIGHTS_FILE, WEIGHTS_BYTES);
#endif
  pthread_t threads[MOST];
  char* results[MOST];
  for (int i = 0; i < callers; i++) pthread_create(&threads[i], 0, call, 0);
  for (int i = 0; i < callers; i++) pthread_join(threads[i], (void**)&results[i]);
  for (int i = 1; i < callers; i++)
    if (memcmp(results[0], results[i], OUT)) {
      fprintf(stderr, "callers differ\n");
      return 7;
    }
  FILE* file = fopen(arguments[2], "wb");
  fwrite(results[0], 1, OUT, file);
  fclose(file);
  for (int i = 0; i < callers; i++) free(results[i] - GUARD);
  free((void*)input);
  free((void*)weights);
  printf("%d\n", tasks_run);
  return 0;
}
