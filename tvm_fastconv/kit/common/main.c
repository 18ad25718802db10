/* @name@: runs the network, checks it, times it.

     @name@ check [THREADS]                0 if it computes what the model it was compiled from computes
     @name@ bench [THREADS]                microseconds of a call, of a batch of 1, on zeros
     @name@ run INPUT... OUTPUT... [THREADS]   raw files: elements in C order, in this machine's byte order
   In the folder of the kit, where reference/ lies. */
#define _POSIX_C_SOURCE 200112L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kit_illegal.h"
#include "kit_program.h"

static const size_t tensor_bytes[TENSORS] = {@tensor_bytes@}; /* of a batch of 1, where the batch is dynamic */
static const int in_batch[TENSORS] = {@in_batch@};            /* whether it grows with the batch */
static const char* const output_dtypes[OUTPUTS] = {@output_dtypes@};
static const size_t output_sizes[OUTPUTS] = {@output_sizes@}; /* bytes of an element */
static const char* const reference[TENSORS] = {@reference_files@};
static const double tolerance = @tolerance@; /* of the largest expected value */

enum { MOST_THREADS = 1024 };

static long batch = 1;
static char* tensors[TENSORS];

char* allocate(size_t bytes) {
  void* memory = NULL;
  if (posix_memalign(&memory, ALIGNMENT, bytes ? bytes : 1)) {
    fprintf(stderr, "no memory\n");
    exit(2);
  }
  memset(memory, 0, bytes);
  return memory;
}

static size_t bytes_of(int tensor) { return tensor_bytes[tensor] * (in_batch[tensor] ? (size_t)batch : 1); }

static void read_file(const char* path, char* memory, size_t bytes) {
  FILE* file = fopen(path, "rb");
  if (!file || fread(memory, 1, bytes, file) != bytes || fgetc(file) != EOF) {
    const char* hint = path == reference[0] ? "; it lies in the folder of the kit, where this is run" : "";
    if (!file) fprintf(stderr, "%s: cannot be opened%s\n", path, hint);
    else fprintf(stderr, "%s: not a file of %lu bytes\n", path, (unsigned long)bytes);
    exit(2);
  }
  fclose(file);
}

static void allocate_tensors(void) {
  for (int i = 0; i < TENSORS; i++) tensors[i] = allocate(bytes_of(i));
}

/* Memory for all tensors, and the inputs from these files; the first that is in the batch says how large that is. */
static void read_inputs(const char* const* files) {
  for (int i = INPUTS; i-- > 0;) {
    FILE* file = in_batch[i] ? fopen(files[i], "rb") : NULL;
    if (file && !fseek(file, 0, SEEK_END)) batch = ftell(file) / (long)tensor_bytes[i];
    if (file) fclose(file);
  }
  if (batch < 1) batch = 1; /* the file is missing or too small, as is said next */
  allocate_tensors();
  for (int i = 0; i < INPUTS; i++) read_file(files[i], tensors[i], bytes_of(i));
}

static void call(void) {
  if (call_network(batch, tensors)) exit(2);
}

static double element(const char* memory, const char* dtype, size_t i) {
#define AS(name, type) \
  if (!strcmp(dtype, name)) return (double)((const type*)memory)[i]
  AS("float32", float);
  AS("float64", double);
  AS("int8", int8_t);
  AS("int16", int16_t);
  AS("int32", int32_t);
  AS("int64", int64_t);
  AS("uint16", uint16_t);
  AS("uint32", uint32_t);
  AS("uint64", uint64_t);
  return ((const uint8_t*)memory)[i]; /* uint8, bool */
#undef AS
}

/* Largest difference over the largest expected value, of what is finite there; infinity where the rest differs. */
static double difference(const char* got, const char* want, size_t count, const char* dtype) {
  double largest = 0, scale = 0;
  for (size_t i = 0; i < count; i++) {
    double one = element(got, dtype, i), other = element(want, dtype, i);
    if (!isfinite(other)) {
      if (one != other && !(isnan(one) && isnan(other))) return INFINITY;
      continue;
    }
    if (!isfinite(one)) return INFINITY;
    largest = fmax(largest, fabs(one - other));
    scale = fmax(scale, fabs(other));
  }
  return largest / (scale > 0 ? scale : 1);
}

static int check(void) {
  double worst = 0;
  read_inputs(reference);
  call();
  for (int i = INPUTS; i < TENSORS; i++) {
    char* want = allocate(bytes_of(i));
    read_file(reference[i], want, bytes_of(i));
    size_t count = bytes_of(i) / output_sizes[i - INPUTS];
    worst = fmax(worst, difference(tensors[i], want, count, output_dtypes[i - INPUTS]));
    free(want);
  }
  printf("largest relative error %.1e, allowed %.1e: %s\n", worst, tolerance, worst <= tolerance ? "right" : "WRONG");
  return worst <= tolerance ? 0 : 1;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static int by_size(const void* one, const void* other) {
  double a = *(const double*)one, b = *(const double*)other;
  return (a > b) - (a < b);
}

static int bench(void) {
  enum { TURNS = 31 };
  allocate_tensors();
  double seconds[TURNS], begin = now();
  call();
  call();
  double once = now();
  call();
  once = now() - once;
  long calls = once > 0.02 ? 1 : (long)(0.02 / (once > 1e-8 ? once : 1e-8)) + 1;
  int turns = 0;
  for (; turns < TURNS && (turns < 3 || now() - begin < 10); turns++) {
    seconds[turns] = now();
    for (long i = 0; i < calls; i++) call();
    seconds[turns] = (now() - seconds[turns]) / calls;
  }
  qsort(seconds, turns, sizeof seconds[0], by_size);
  printf("%.2f us a call (median; least %.2f)\n", 1e6 * seconds[turns / 2], 1e6 * seconds[0]);
  return 0;
}

static int run(char** files) {
  for (int i = INPUTS; i < TENSORS; i++)
    for (int j = 0; j < i; j++)
      if (!strcmp(files[i], files[j])) {
        fprintf(stderr, "%s: given twice\n", files[i]);
        return 2;
      }
  read_inputs((const char* const*)files);
  call();
  for (int i = INPUTS; i < TENSORS; i++) {
    FILE* file = fopen(files[i], "wb");
    if (!file || fwrite(tensors[i], 1, bytes_of(i), file) != bytes_of(i) || fclose(file)) {
      fprintf(stderr, "%s: cannot be written\n", files[i]);
      return 2;
    }
  }
  return 0;
}

int main(int count, char** arguments) {
  const char* verb = count > 1 ? arguments[1] : "";
  int files = strcmp(verb, "run") ? 0 : TENSORS;
  int known = !strcmp(verb, "check") || !strcmp(verb, "bench") || !strcmp(verb, "run");
  if (!known || count < 2 + files || count > 3 + files) {
    fprintf(stderr, "usage: %s check [THREADS] | bench [THREADS] | run INPUT... OUTPUT... [THREADS]\n", arguments[0]);
    return 2;
  }
  char* end = "";
  long threads = count == 3 + files ? strtol(arguments[2 + files], &end, 10) : 1;
  if (*end || threads < 1 || threads > MOST_THREADS) {
    fprintf(stderr, "THREADS is a number from 1 to %d\n", MOST_THREADS);
    return 2;
  }
  signal(SIGILL, say_illegal);
  if (open_network((int)threads)) return 2;
  int status = !strcmp(verb, "check") ? check() : !strcmp(verb, "bench") ? bench() : run(arguments + 2);
  for (int i = 0; i < TENSORS; i++) free(tensors[i]);
  close_network();
  return status;
}
