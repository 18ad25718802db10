/* What this core can do at most. Built by roofline.py as a shared library with -O3 and the CPU's own instruction set
 * (at -O2 the accumulators of some compilers go through memory, and the "peak" is a third of the truth).
 * Every function does a known amount of work and returns it; the caller holds the clock. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "clock.c"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, CHAINS = 24 }; /* of 32 registers */
#elif defined(__AVX2__)
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

/* Bits of a register, as the lanes in which set ones are counted, and the counts, lane by lane. */
#if defined(__AVX512VPOPCNTDQ__)
enum { BIT_CHAINS = 24 };
typedef unsigned bits __attribute__((vector_size(64)));
static bits count_bits(bits v) { return (bits)_mm512_popcnt_epi32((__m512i)v); }

#elif defined(__AVX2__)
/* Mula, Kurz, Lemire, "Faster population counts using AVX2 instructions" (arXiv:1611.07612), section 2.1: the counts of
 * both nibbles from a table, added up in bytes. A byte is full after 31 vectors; adding the bytes up is left out. */
enum { BIT_CHAINS = 10 }; /* of 16 registers: table, mask, operand and both nibbles need theirs */
typedef unsigned char bits __attribute__((vector_size(32)));
typedef unsigned short shorts __attribute__((vector_size(32)));
static bits count_bits(bits v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  bits low = v & 15, high = (bits)((shorts)v >> 4) & 15;
  return (bits)_mm256_shuffle_epi8(table, (__m256i)low) + (bits)_mm256_shuffle_epi8(table, (__m256i)high);
}

#elif defined(__aarch64__)
enum { BIT_CHAINS = 16 };
typedef unsigned char bits __attribute__((vector_size(16)));
static bits count_bits(bits v) { return (bits)vcntq_u8((uint8x16_t)v); }

#else
enum { BIT_CHAINS = 8 };
typedef unsigned long bits;
static bits count_bits(bits v) { return (bits)__builtin_popcountl(v); }
#endif

/* Independent chains of x = x + popcount(x ^ b). Returns binary multiply-accumulates, one for each bit. */
double xor_popcount(long rounds) {
  bits b = (bits){0} + 0x5a, x[BIT_CHAINS];
  __asm__ volatile("" : "+m"(b)); /* unknown to the compiler */
  for (int i = 0; i < BIT_CHAINS; i++) memset(&x[i], i, sizeof x[i]);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 24
    for (int i = 0; i < BIT_CHAINS; i++) x[i] += count_bits(x[i] ^ b);
  }
  for (int i = 1; i < BIT_CHAINS; i++) x[0] += x[i];
  __asm__ volatile("" : : "m"(x[0])); /* used */
  return 8.0 * sizeof(bits) * BIT_CHAINS * (double)rounds;
}

/* One multiply-add after the other. Returns how many. */
double multiply_add_chain(long rounds) {
  vec b = splat(factor), c = splat(addend), x = splat(0);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) x = x * b + c;
  }
  sink = sum_lanes(x);
  return 16.0 * (double)rounds;
}

/* As multiply_add, on half vectors. Returns how many multiply-adds of one. */
typedef float half __attribute__((vector_size(LANES / 2 * sizeof(float))));

double half_multiply_add(long rounds) {
  half b = factor - (half){0}, c = addend - (half){0}, x[CHAINS];
  for (int i = 0; i < CHAINS; i++) x[i] = (float)i - (half){0};
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) x[i] = x[i] * b + c;
  }
  for (int i = 1; i < CHAINS; i++) x[0] += x[i];
  sink = x[0][0];
  return CHAINS * (double)rounds;
}

/* The compiler copies every accumulator of an intrinsic once: more than these would go through memory. */
enum { DOT_CHAINS = 12 };

/* Independent chains of four products of bytes added to every lane. Returns how many vectors; 0 without them. */
double byte_products(long rounds) {
#if defined(__AVX512VNNI__)
  __m512i b = _mm512_set1_epi8(3), x[DOT_CHAINS];
  __asm__ volatile("" : "+v"(b)); /* unknown to the compiler */
#pragma GCC unroll 12
  for (int i = 0; i < DOT_CHAINS; i++) x[i] = _mm512_set1_epi32(i);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < DOT_CHAINS; i++) x[i] = _mm512_dpbusd_epi32(x[i], b, b);
  }
#pragma GCC unroll 12
  for (int i = 1; i < DOT_CHAINS; i++) x[0] = _mm512_add_epi32(x[0], x[i]);
  sink = (float)_mm512_cvtsi512_si32(x[0]);
  return DOT_CHAINS * (double)rounds;
#elif defined(__ARM_FEATURE_DOTPROD)
  int8x16_t b = vdupq_n_s8(3);
  int32x4_t x[DOT_CHAINS];
  __asm__ volatile("" : "+w"(b)); /* unknown to the compiler */
#pragma GCC unroll 12
  for (int i = 0; i < DOT_CHAINS; i++) x[i] = vdupq_n_s32(i);
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < DOT_CHAINS; i++) x[i] = vdotq_s32(x[i], b, b);
  }
#pragma GCC unroll 12
  for (int i = 1; i < DOT_CHAINS; i++) x[0] = vaddq_s32(x[0], x[i]);
  sink = (float)vgetq_lane_s32(x[0], 0);
  return DOT_CHAINS * (double)rounds;
#else
  (void)rounds;
  return 0;
#endif
}

/* Vectors of floats from every second place of 8 KiB. Returns how many. */
double gather(const float *memory, long rounds) {
  enum { SPAN = 2048 };
  vec sum = splat(0);
  for (long r = 0; r < rounds; r++) {
    for (int at = 0; at + 2 * LANES <= SPAN; at += LANES) {
#if defined(__AVX512F__)
      const __m512i places = _mm512_mullo_epi32(
          _mm512_set1_epi32(2), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
      sum += (vec)_mm512_i32gather_ps(places, memory + at, 4);
#elif defined(__AVX2__)
      sum += (vec)_mm256_i32gather_ps(memory + at, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), 4);
#else
      for (int i = 0; i < LANES; i++) sum[i] += memory[at + 2 * i];
#endif
    }
    __asm__ volatile("" ::: "memory");
  }
  sink = sum_lanes(sum);
  return (double)((SPAN - 2 * LANES) / LANES + 1) * (double)rounds;
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

/* As read_memory, every vector one float further on: most of them lie across cache lines. Returns vectors read. */
double read_scattered(const float *memory, size_t bytes, long rounds) {
  typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
  const loose *p = (const loose *)(memory + 1);
  size_t vectors = (bytes / sizeof(vec) - 1) / READ_CHAINS * READ_CHAINS;
  vec sum[READ_CHAINS];
  for (int k = 0; k < READ_CHAINS; k++) sum[k] = splat(0);
  for (long r = 0; r < rounds; r++) {
    for (size_t i = 0; i < vectors; i += READ_CHAINS) {
#pragma GCC unroll 8
      for (int k = 0; k < READ_CHAINS; k++) sum[k] += p[i + k];
    }
    __asm__ volatile("" ::: "memory");
  }
  vec total = splat(0);
  for (int k = 0; k < READ_CHAINS; k++) total += sum[k];
  sink = sum_lanes(total);
  return (double)vectors * (double)rounds;
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
