/* What this core can do at most. Built by roofline.py as a shared library with -O3 and the CPU's own instruction set
 * (at -O2 the accumulators of some compilers go through memory, and the "peak" is a third of the truth).
 * Every function does a known amount of work and returns it; the caller holds the clock. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__AVX512F__)
enum { LANES = 16, CHAINS = 24 }; /* of 32 registers */
#elif defined(__AVX__)
enum { LANES = 8, CHAINS = 12 }; /* of 16 registers */
#elif defined(__aarch64__)
enum { LANES = 4, CHAINS = 24 };
#else
enum { LANES = 4, CHAINS = 12 };
#endif

/* Chains hide the latency of an instruction: 4-5 cycles times two per cycle needs ten. */
enum { READ_CHAINS = 8 };

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));

static volatile float sink; /* what is written here was not optimised away */
static volatile float factor = 0.999f, addend = 0.001f; /* converges to 1: no denormals, no infinity */

static float sum_lanes(vec v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

static vec splat(float value) { return value - (vec){0}; }

int vector_lanes(void) { return LANES; }

/* Independent chains of x = x * b + c. Returns floating point operations, two for each multiply-add. */
double multiply_add(long rounds) {
  vec b = splat(factor), c = splat(addend), x[CHAINS];
  for (int i = 0; i < CHAINS; i++) x[i] = splat((float)i);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) x[i] = x[i] * b + c;
  }
  vec total = splat(0);
  for (int i = 0; i < CHAINS; i++) total += x[i];
  sink = sum_lanes(total);
  return 2.0 * LANES * CHAINS * (double)rounds;
}

/* Memory in huge pages where the system grants them, touched, filled with ones. NULL if there is none. */
float *allocate(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 2 << 20, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  float *values = memory;
  for (size_t i = 0; i < bytes / sizeof(float); i++) values[i] = 1.0f;
  return values;
}

void release(float *memory) { free(memory); }

/* Reads the buffer `rounds` times. Returns bytes read. */
double read_memory(const float *memory, size_t bytes, long rounds) {
  const vec *p = (const vec *)memory;
  size_t vectors = bytes / sizeof(vec) / READ_CHAINS * READ_CHAINS;
  vec sum[READ_CHAINS];
  for (int k = 0; k < READ_CHAINS; k++) sum[k] = splat(0);
  for (long r = 0; r < rounds; r++) {
    for (size_t i = 0; i < vectors; i += READ_CHAINS) {
#pragma GCC unroll 8
      for (int k = 0; k < READ_CHAINS; k++) sum[k] += p[i + k];
    }
    __asm__ volatile("" ::: "memory"); /* the next round reads again */
  }
  vec total = splat(0);
  for (int k = 0; k < READ_CHAINS; k++) total += sum[k];
  sink = sum_lanes(total);
  return (double)vectors * sizeof(vec) * (double)rounds;
}

/* Copies the first half of the buffer over the second. Returns bytes read plus bytes written. */
double copy_memory(float *memory, size_t bytes, long rounds) {
  size_t half = bytes / 2;
  for (long r = 0; r < rounds; r++) {
    memcpy((char *)memory + half, memory, half);
    __asm__ volatile("" ::: "memory");
  }
  return 2.0 * (double)half * (double)rounds;
}
