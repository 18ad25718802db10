// CUDA C++ on the CPU, for tests: `g++ -include emulator.h kernel.cu` (by kernel_library.py) makes a kernel an ordinary
// function, every CUDA thread of a block a fiber, and the blocks of a grid run one after another.
//
// A thread runs until it waits: at a barrier, in a warp intrinsic. In which order threads and blocks run is a number:
// 0 forwards and 1 backwards, each warp up to the next barrier of the block before another begins; 2 first the even
// threads and then the odd, all warps from one intrinsic to the next. Right results depend on none of them, so a missing
// barrier shows as results that differ. What else is wrong ends the launch with a message: barriers that not every
// thread reaches, lanes missing from a warp intrinsic, addresses off their alignment, indices outside of an array,
// writes past the dynamic shared memory, launches larger than the hardware takes. Shared memory holds 0xFF bytes, thus
// NaN or -1, when a block starts. Not modelled: time, bank conflicts, textures, half types, atomics in any other order
// than that of the threads.
//
// FASTCONV_EMULATOR is defined, __CUDA_ARCH__ is not. Inline assembly cannot run here: it belongs into a `__device__`
// helper of its own with a second body, `#ifdef FASTCONV_EMULATOR`, that calls the same instruction of this file:
//
//   fastconv_emulated::bmma_and(int* d, const unsigned* a, const unsigned* b)
//       d[4] += a[4] x b[2]: mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc
//   fastconv_emulated::tf32(float x) and tf32_mma(float* d, const unsigned* a, const unsigned* b)
//       cvt.rna.tf32.f32; d[4] += a[4] x b[2]: mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32
//   fastconv_emulated::ldmatrix_x4(unsigned* r, const void* row_address), and ldmatrix_x2, ldmatrix_x1
//       ldmatrix.sync.aligned.m8n8.x4.shared.b16
//   fastconv_emulated::cp_async_16(void* shared, const void* global), and with a third argument
//       int source_bytes (the rest becomes zero) or bool copies (false: zeros)
//       cp.async.cg.shared.global 16; cp_async(shared, global, bytes, source_bytes) is that of 4 or 8 bytes
//   fastconv_emulated::cp_async_commit(), cp_async_wait(int n)
//       commit_group, wait_group: what was copied arrives in the wait, and is 0xFF bytes until then
#ifndef FASTCONV_EMULATOR
#define FASTCONV_EMULATOR 1
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

// ---------------------------------------------------------------------------------------------------- the language
#define __global__
#define __device__
#define __host__
#define __constant__ static const
// Not __shared__: kernel_library.py gives the variables of a kernel a section of their own, to find and poison them.
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define alignas(bytes) __attribute__((aligned(bytes)))  // g++ wants the keyword in front of `static`

#define FASTCONV_VECTORS(type, name)                                                                      \
  struct name##1 { type x; };                                                                             \
  struct __align__(sizeof(type) * 2) name##2 { type x, y; };                                              \
  struct name##3 { type x, y, z; };                                                                       \
  struct __align__(sizeof(type) * 4 < 16 ? sizeof(type) * 4 : 16) name##4 { type x, y, z, w; };           \
  inline name##1 make_##name##1(type x) { return {x}; }                                                   \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                        \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                             \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
FASTCONV_VECTORS(signed char, char)
FASTCONV_VECTORS(unsigned char, uchar)
FASTCONV_VECTORS(short, short)
FASTCONV_VECTORS(unsigned short, ushort)
FASTCONV_VECTORS(int, int)
FASTCONV_VECTORS(unsigned, uint)
FASTCONV_VECTORS(long, long)
FASTCONV_VECTORS(unsigned long, ulong)
FASTCONV_VECTORS(long long, longlong)
FASTCONV_VECTORS(unsigned long long, ulonglong)
FASTCONV_VECTORS(float, float)
FASTCONV_VECTORS(double, double)
#undef FASTCONV_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

constexpr int warpSize = 32;
static uint3 threadIdx, blockIdx;  // of the thread that runs; each kernel gets copies
static dim3 blockDim, gridDim;

// ------------------------------------------------------------------------------------------------ switching stacks
extern "C" void fastconv_switch(void** save, void* to) __attribute__((visibility("hidden")));

#if !defined(FASTCONV_UCONTEXT) && defined(__x86_64__)
// Keeps the registers that a function must, on the stack, and goes on where the other stack was left.
asm(R"(
.text
.hidden fastconv_switch
.globl fastconv_switch
.type fastconv_switch, @function
fastconv_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fastconv_switch, .-fastconv_switch
)");

namespace fastconv_emulated {
using Context = void*;
inline void switch_to(Context& from, Context& to) { fastconv_switch(&from, to); }
inline void prepare(Context& made, char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
  top[-2] = reinterpret_cast<void*>(entry);  // `ret` takes it, which leaves the stack as a call would: 8 off 16
  made = top - 8;                            // under it the six registers
}
}  // namespace fastconv_emulated

#else  // by way of the system, which sets the signal mask at each switch: 20 times as slow
#include <ucontext.h>
namespace fastconv_emulated {
using Context = ucontext_t;
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& made, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&made);
  made.uc_stack.ss_sp = stack;
  made.uc_stack.ss_size = bytes;
  made.uc_link = nullptr;
  makecontext(&made, entry, 0);
}
}  // namespace fastconv_emulated
#endif

namespace fastconv_emulated {
// --------------------------------------------------------------------------------------------- threads of a block
constexpr int LARGEST_BLOCK = 1024;
constexpr int WORDS = 6;               // what a lane can hand to its warp at once: the operands of an mma
constexpr size_t STACK_BYTES = 61760;  // an odd number of cache lines, or all stacks share a few sets of the cache
constexpr size_t LARGEST_STATIC = 48 << 10, LARGEST_SHARED = 227 << 10;  // bytes per block, of sm_90
constexpr size_t GUARD_BYTES = 1024;
constexpr unsigned char POISON = 0xFF;

struct Copy {
  char* shared;
  const char* global;
  int bytes, source_bytes, group;
};

enum State { RUNS, AT_BLOCK_BARRIER, AT_WARP_BARRIER, RETURNED, STATES };

struct Thread {
  Context context;
  uint3 index;
  State state;
  int line;       // of the source, where it waits
  unsigned mask;  // of the lanes it waits for, at a warp barrier
  unsigned came;  // of those that were there when it opened: not the ones that had returned
  int group;      // of asynchronous copies, to be committed
};

static Thread threads[LARGEST_BLOCK];
static int in_state[STATES];                      // how many threads are
static int sequence[LARGEST_BLOCK];               // in which they run
static std::vector<Copy> copies[LARGEST_BLOCK];   // of each thread, that have not arrived
static unsigned handed[LARGEST_BLOCK][WORDS];     // what each hands to the lanes it waits for
static unsigned collected[LARGEST_BLOCK][WORDS];  // the same, when the warp barrier opened
static Thread* self;
static Context scheduler;
static void (*kernel)(void**);
static void** kernel_arguments;
static char report[512];  // why the launch ended, or empty

static char* static_shared;
static size_t static_shared_bytes;
alignas(1024) static char dynamic_shared[LARGEST_SHARED + GUARD_BYTES];
static size_t dynamic_shared_bytes;

// Ends the launch with a message. Called by a thread it does not return; the others never run again.
__attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
  int used = snprintf(report, sizeof report, "block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
  if (self) {
    used += snprintf(report + used, sizeof report - used, ", thread (%u, %u, %u)", threadIdx.x, threadIdx.y,
                     threadIdx.z);
  }
  used += snprintf(report + used, sizeof report - used, ": ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(report + used, sizeof report - used, format, arguments);
  va_end(arguments);
  if (self) switch_to(self->context, scheduler);
}

inline int thread_number() { return int(self - threads); }
inline int lane() { return thread_number() % 32; }
inline int first_lane() { return thread_number() / 32 * 32; }
inline int block_size() { return int(blockDim.x * blockDim.y * blockDim.z); }

inline void enter(Thread& thread, State state) {
  --in_state[thread.state];
  ++in_state[state];
  thread.state = state;
}

inline void wait_in(State state, int line) {
  enter(*self, state);
  self->line = line;
  switch_to(self->context, scheduler);
}

inline void thread_entry() {
  kernel(kernel_arguments);
  enter(*self, RETURNED);
  switch_to(self->context, scheduler);
}

// Which of n runs at a place of the order.
inline int64_t at_place(int64_t place, int64_t n, int order) {
  if (order == 1) return n - 1 - place;
  if (order == 2) return place < (n + 1) / 2 ? 2 * place : 2 * (place - (n + 1) / 2) + 1;
  return place;
}

inline void start_threads(char* stacks) {
  const int n = block_size();
  for (int i = 0; i < n; ++i) {
    threads[i].state = RUNS;
    threads[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    threads[i].group = 0;
    copies[i].clear();
    prepare(threads[i].context, stacks + i * STACK_BYTES, STACK_BYTES, thread_entry);
  }
  memset(in_state, 0, sizeof in_state);
  in_state[RUNS] = n;
}

inline void resume(Thread& thread) {
  self = &thread;
  threadIdx = thread.index;
  switch_to(scheduler, thread.context);
  self = nullptr;
}

// The lanes that wait for the same ones as this lane, if all that have not returned are there; else none.
inline unsigned lanes_that_came(const Thread* warp, int lanes, const Thread& waits) {
  unsigned came = 0;
  for (int i = 0; i < lanes; ++i) {
    if (!(waits.mask >> i & 1) || warp[i].state == RETURNED) continue;
    if (warp[i].state != AT_WARP_BARRIER || warp[i].line != waits.line || warp[i].mask != waits.mask) return 0;
    came |= 1u << i;
  }
  return came;
}

// Opens the warp barriers of a warp that all lanes have reached; whether there was one.
inline bool release_warp(int first) {
  const int waited = in_state[AT_WARP_BARRIER];
  Thread* warp = threads + first;
  const int lanes = block_size() - first < 32 ? block_size() - first : 32;
  for (int i = 0; i < lanes; ++i) {
    if (warp[i].state != AT_WARP_BARRIER) continue;
    const unsigned came = lanes_that_came(warp, lanes, warp[i]);
    for (int lane = i; lane < lanes; ++lane) {
      if (!(came >> lane & 1)) continue;
      memcpy(collected[first + lane], handed[first + lane], sizeof handed[0]);
      warp[lane].came = came;
      enter(warp[lane], RUNS);
    }
  }
  return in_state[AT_WARP_BARRIER] < waited;
}

inline const Thread* first_in(State state) {
  for (const Thread* thread = threads;; ++thread) {
    if (thread->state == state) return thread;
  }
}

inline void release_block() {
  const int n = block_size();
  if (in_state[AT_BLOCK_BARRIER]) {
    const int line = first_in(AT_BLOCK_BARRIER)->line;
    for (int i = 0; i < n; ++i) {
      if (threads[i].state != AT_BLOCK_BARRIER || threads[i].line == line) continue;
      return fail("divergent barrier: threads wait at __syncthreads of line %d and of line %d", line, threads[i].line);
    }
    if (in_state[AT_BLOCK_BARRIER] < n) {
      return fail("divergent barrier: %d of %d threads reach __syncthreads of line %d, %d have returned",
                  in_state[AT_BLOCK_BARRIER], n, line, in_state[RETURNED]);
    }
    for (int i = 0; i < n; ++i) enter(threads[i], RUNS);
  } else {
    const Thread* waits = first_in(AT_WARP_BARRIER);
    fail("divergent warp: lane %d waits in line %d for lanes %08x, and not all of them come",
         int(waits - threads) % 32, waits->line, waits->mask);
  }
}

// Threads of one warp that follow each other run as far as they come: a warp ahead of another is where barriers count.
inline void run_threads(char* stacks) {
  start_threads(stacks);
  const int n = block_size();
  while (in_state[RETURNED] < n) {
    for (int place = 0, end; place < n; place = end) {
      const int warp = sequence[place] / 32 * 32;
      for (end = place; end < n && sequence[end] / 32 * 32 == warp; ++end) continue;
      do {
        for (int i = place; i < end; ++i) {
          Thread& thread = threads[sequence[i]];
          if (thread.state != RUNS) continue;
          resume(thread);
          if (report[0]) return;
        }
      } while (in_state[AT_WARP_BARRIER] && release_warp(warp));
    }
    if (!in_state[RUNS] && in_state[RETURNED] < n) release_block();
    if (report[0]) return;
  }
}

inline void run_block(char* stacks) {
  if (static_shared_bytes) memset(static_shared, POISON, static_shared_bytes);
  memset(dynamic_shared, POISON, dynamic_shared_bytes + GUARD_BYTES);
  run_threads(stacks);
  for (size_t i = 0; i < GUARD_BYTES && !report[0]; ++i) {
    if (dynamic_shared[dynamic_shared_bytes + i] == char(POISON)) continue;
    fail("wrote past its %zu bytes of dynamic shared memory", dynamic_shared_bytes);
  }
}

struct Launch {
  dim3 grid, block;
  unsigned shared_bytes;  // dynamic ones
  int order;
};

// Runs all blocks; `stacks` are LARGEST_BLOCK times STACK_BYTES. Says why it ended early, or nullptr.
inline const char* launch(const Launch& how, void (*body)(void**), void** arguments, char* from, char* to,
                          char* stacks) {
  report[0] = 0;
  self = nullptr;
  gridDim = how.grid, blockDim = how.block, blockIdx = {0, 0, 0};
  kernel = body, kernel_arguments = arguments;
  static_shared = from, static_shared_bytes = to - from, dynamic_shared_bytes = how.shared_bytes;
  const dim3 &g = how.grid, &b = how.block;
  if (uint64_t(b.x) * b.y * b.z > LARGEST_BLOCK || !b.x || !b.y || !b.z || b.z > 64) {
    fail("a block of %u x %u x %u threads; at most %d in all and 64 in z", b.x, b.y, b.z, LARGEST_BLOCK);
  } else if (!g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535 || g.x > INT32_MAX) {
    fail("a grid of %u x %u x %u blocks; at least one, and at most 65535 in y and z", g.x, g.y, g.z);
  } else if (static_shared_bytes > LARGEST_STATIC || static_shared_bytes + dynamic_shared_bytes > LARGEST_SHARED) {
    fail("%zu static and %zu dynamic bytes of shared memory; at most %zu static, and %zu in all", static_shared_bytes,
         dynamic_shared_bytes, LARGEST_STATIC, LARGEST_SHARED);
  }
  for (int i = 0; i < block_size() && !report[0]; ++i) sequence[i] = int(at_place(i, block_size(), how.order));
  const int64_t blocks = int64_t(g.x) * g.y * g.z;
  for (int64_t place = 0; place < blocks && !report[0]; ++place) {
    const int64_t i = at_place(place, blocks, how.order);
    blockIdx = {unsigned(i % g.x), unsigned(i / g.x % g.y), unsigned(i / g.x / g.y)};
    run_block(stacks);
  }
  return report[0] ? report : nullptr;
}

// ----------------------------------------------------------------------------------------------- lanes of a warp
inline void wait_for_lanes(unsigned mask, int line) {
  if (!(mask >> lane() & 1)) fail("line %d: lane %d is not in its own mask %08x", line, lane(), mask);
  self->mask = mask;
  wait_in(AT_WARP_BARRIER, line);
}

// For instructions that are undefined unless all 32 lanes are there.
inline void wait_for_warp(int line) {
  wait_for_lanes(~0u, line);
  if (self->came != ~0u) fail("line %d: this takes 32 lanes, and only %08x are there", line, self->came);
}

template <class T> void hand(const T& value) {
  static_assert(sizeof(T) <= sizeof handed[0], "more than a lane can hand over");
  memcpy(handed[thread_number()], &value, sizeof value);
}

// What a lane handed over; poison where it is none of those that came.
template <class T> T taken(int from) {
  T value;
  memset(&value, POISON, sizeof value);
  if (self->came >> from & 1) memcpy(&value, collected[first_lane() + from], sizeof value);
  return value;
}

template <class T> T exchange(unsigned mask, T value, int from, int line) {
  hand(value);
  wait_for_lanes(mask, line);
  return taken<T>(from);
}

// One value of all lanes that came.
template <class T, class Combine> T reduce(unsigned mask, T value, int line, Combine combine) {
  hand(value);
  wait_for_lanes(mask, line);
  for (int i = 0; i < 32; ++i) {
    if (i != lane() && self->came >> i & 1) value = combine(value, taken<T>(i));
  }
  return value;
}

// d[4] += a[4] x b[2] of 16 x 8 words and 8 x 8, by the fragments of 9.7.14.5 of the PTX manual: those of m16n8k256 for
// .b1, 32 bits a word, and of m16n8k8 for .tf32 are the same. A row is in the four lanes of a group, two words in each.
template <class Sum, class Product>
void mma(Sum* d, const unsigned* a, const unsigned* b, int line, Product product) {
  memcpy(handed[thread_number()], a, 4 * sizeof *a);
  memcpy(handed[thread_number()] + 4, b, 2 * sizeof *b);
  wait_for_warp(line);
  const unsigned(*all)[WORDS] = collected + first_lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane() / 4 + 8 * (i / 2), column = lane() % 4 * 2 + i % 2;
    for (int word = 0; word < 8; ++word) {
      d[i] += product(all[row % 8 * 4 + word % 4][row / 8 + 2 * (word / 4)], all[column * 4 + word % 4][4 + word / 4]);
    }
  }
}

inline void bmma_and(int* d, const unsigned* a, const unsigned* b, int line = __builtin_LINE()) {
  mma(d, a, b, line, [](unsigned in_a, unsigned in_b) { return __builtin_popcount(in_a & in_b); });
}

inline unsigned tf32(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  return std::isnan(x) ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}

inline float tf32_value(unsigned bits, int line) {
  float value;
  memcpy(&value, &bits, sizeof value);
  if (!std::isnan(value) && bits & 0x1fffu) {
    fail("line %d: %g is no TF32, and what mma makes of it is undefined", line, value);
  }
  return value;
}

inline void tf32_mma(float* d, const unsigned* a, const unsigned* b, int line = __builtin_LINE()) {
  mma(d, a, b, line, [line](unsigned in_a, unsigned in_b) { return tf32_value(in_a, line) * tf32_value(in_b, line); });
}

// ------------------------------------------------------------------------------------------------- shared memory
inline bool is_shared(const void* address, size_t bytes) {
  const char* at = static_cast<const char*>(address);
  return (at >= static_shared && at + bytes <= static_shared + static_shared_bytes) ||
         (at >= dynamic_shared && at + bytes <= dynamic_shared + dynamic_shared_bytes);
}

inline void check_shared(const void* address, size_t bytes, const char* what, int line) {
  if (!is_shared(address, bytes)) fail("line %d: %s outside of the shared memory", line, what);
  if (reinterpret_cast<uintptr_t>(address) % bytes) fail("line %d: %s is not aligned to %zu bytes", line, what, bytes);
}

// `matrices` of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8.
template <int matrices> void ldmatrix(unsigned* result, const void* row_address, int line) {
  if (lane() < 8 * matrices) {
    check_shared(row_address, 16, "a row of ldmatrix", line);
    memcpy(handed[thread_number()], row_address, 16);
  }
  wait_for_warp(line);
  for (int i = 0; i < matrices; ++i) result[i] = collected[first_lane() + 8 * i + lane() / 4][lane() % 4];
}
inline void ldmatrix_x1(unsigned* r, const void* row_address, int line = __builtin_LINE()) {
  ldmatrix<1>(r, row_address, line);
}
inline void ldmatrix_x2(unsigned* r, const void* row_address, int line = __builtin_LINE()) {
  ldmatrix<2>(r, row_address, line);
}
inline void ldmatrix_x4(unsigned* r, const void* row_address, int line = __builtin_LINE()) {
  ldmatrix<4>(r, row_address, line);
}

inline void cp_async(void* shared, const void* global, int bytes, int source_bytes, int line = __builtin_LINE()) {
  check_shared(shared, bytes, "the target of cp.async", line);
  if (reinterpret_cast<uintptr_t>(global) % bytes) {
    fail("line %d: the source of cp.async is not aligned to %d bytes", line, bytes);
  }
  if (source_bytes < 0 || source_bytes > bytes) fail("line %d: cp.async of %d of %d bytes", line, source_bytes, bytes);
  memset(shared, POISON, bytes);
  const char* from = static_cast<const char*>(global);
  copies[thread_number()].push_back({static_cast<char*>(shared), from, bytes, source_bytes, self->group});
}
inline void cp_async_16(void* shared, const void* global, int source_bytes = 16, int line = __builtin_LINE()) {
  cp_async(shared, global, 16, source_bytes, line);
}
inline void cp_async_16(void* shared, const void* global, bool copies, int line = __builtin_LINE()) {
  cp_async(shared, global, 16, copies ? 16 : 0, line);
}
inline void cp_async_commit() { ++self->group; }

// Lets all committed groups but the last n arrive.
inline void cp_async_wait(int n) {
  std::vector<Copy>& pending = copies[thread_number()];
  size_t left = 0;
  for (const Copy& copy : pending) {
    if (copy.group >= self->group - n) {
      pending[left++] = copy;
      continue;
    }
    memset(copy.shared, 0, copy.bytes);
    memcpy(copy.shared, copy.global, copy.source_bytes);
  }
  pending.resize(left);
}
}  // namespace fastconv_emulated

// ------------------------------------------------- what g++ checks: -fsanitize=alignment,bounds with these handlers
struct FastconvPlace {
  const char* file;
  uint32_t line, column;
};

#define FASTCONV_HANDLER extern "C" __attribute__((noreturn, visibility("hidden"), used)) inline void
FASTCONV_HANDLER __ubsan_handle_type_mismatch_v1_abort(FastconvPlace* place, uintptr_t) {
  fastconv_emulated::fail("line %u: misaligned address", place->line);
  __builtin_trap();
}
FASTCONV_HANDLER __ubsan_handle_out_of_bounds_abort(FastconvPlace* place, uintptr_t index) {
  fastconv_emulated::fail("line %u: index %ld outside of the array", place->line, long(index));
  __builtin_trap();
}
#undef FASTCONV_HANDLER

// ----------------------------------------------------------------------------------- functions of the CUDA language
inline void __syncthreads(int line = __builtin_LINE()) {
  fastconv_emulated::wait_in(fastconv_emulated::AT_BLOCK_BARRIER, line);
}
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  fastconv_emulated::wait_for_lanes(mask, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// The lanes that have not returned: threads that went another way still count as active.
inline unsigned __activemask() {
  using namespace fastconv_emulated;
  unsigned mask = 0;
  for (int i = 0; i < 32 && first_lane() + i < block_size(); ++i) {
    mask |= unsigned(threads[first_lane() + i].state != RETURNED) << i;
  }
  return mask;
}

template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32, int line = __builtin_LINE()) {
  const int first = fastconv_emulated::lane() & ~(width - 1);
  return fastconv_emulated::exchange(mask, value, first + (from & (width - 1)), line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
  const int lane = fastconv_emulated::lane(), end = (lane & ~(width - 1)) + width;
  return fastconv_emulated::exchange(mask, value, (lane ^ bits) < end ? lane ^ bits : lane, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const int lane = fastconv_emulated::lane();
  return fastconv_emulated::exchange(mask, value, (lane & (width - 1)) >= int(by) ? lane - int(by) : lane, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const int lane = fastconv_emulated::lane();
  return fastconv_emulated::exchange(mask, value, (lane & (width - 1)) + int(by) < width ? lane + int(by) : lane, line);
}

inline unsigned __ballot_sync(unsigned mask, int yes, int line = __builtin_LINE()) {
  const unsigned own = unsigned(yes != 0) << fastconv_emulated::lane();
  return fastconv_emulated::reduce(mask, own, line, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int yes, int line = __builtin_LINE()) {
  return __ballot_sync(mask, yes, line) != 0;
}
inline int __all_sync(unsigned mask, int yes, int line = __builtin_LINE()) {
  return __ballot_sync(mask, !yes, line) == 0;
}

#define FASTCONV_REDUCE(name, combined)                                                               \
  template <class T> T name(unsigned mask, T value, int line = __builtin_LINE()) {                    \
    static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned"); \
    return fastconv_emulated::reduce(mask, value, line, [](T a, T b) -> T { return combined; });      \
  }
FASTCONV_REDUCE(__reduce_add_sync, T(unsigned(a) + unsigned(b)))
FASTCONV_REDUCE(__reduce_min_sync, a < b ? a : b)
FASTCONV_REDUCE(__reduce_max_sync, a > b ? a : b)
FASTCONV_REDUCE(__reduce_and_sync, (a & b))
FASTCONV_REDUCE(__reduce_or_sync, a | b)
FASTCONV_REDUCE(__reduce_xor_sync, a ^ b)
#undef FASTCONV_REDUCE

#define FASTCONV_ATOMIC(name, combined)                                    \
  template <class T> T name(T* at, std::common_type_t<T> b) {              \
    const T a = *at;                                                       \
    *at = combined;                                                        \
    return a;                                                              \
  }
FASTCONV_ATOMIC(atomicAdd, a + b)
FASTCONV_ATOMIC(atomicSub, a - b)
FASTCONV_ATOMIC(atomicMin, a < b ? a : b)
FASTCONV_ATOMIC(atomicMax, a > b ? a : b)
FASTCONV_ATOMIC(atomicAnd, (a & b))
FASTCONV_ATOMIC(atomicOr, a | b)
FASTCONV_ATOMIC(atomicXor, a ^ b)
FASTCONV_ATOMIC(atomicExch, b)
#undef FASTCONV_ATOMIC
template <class T> T atomicCAS(T* at, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}

template <class T> T __ldg(const T* at) { return *at; }
inline size_t __cvta_generic_to_shared(const void* at) { return reinterpret_cast<size_t>(at); }

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long v) {
  return (unsigned long long)__brev(unsigned(v)) << 32 | __brev(unsigned(v >> 32));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long bytes = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned byte = bytes >> 8 * (selector >> 4 * i & 7) & 0xFF;
    if (selector >> 4 * i & 8) byte = byte & 0x80 ? 0xFF : 0;
    result |= byte << 8 * i;
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return unsigned(((unsigned long long)high << 32 | low) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return unsigned(((unsigned long long)high << 32 | low) >> (by & 31));
}
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += int8_t(a >> 8 * i) * int8_t(b >> 8 * i);
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += uint8_t(a >> 8 * i) * uint8_t(b >> 8 * i);
  return c;
}

// As in CUDA, of two floats the one that is a number.
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) return std::fmax(T(a), T(b));
  else return T(a) > T(b) ? T(a) : T(b);
}
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) return std::fmin(T(a), T(b));
  else return T(a) < T(b) ? T(a) : T(b);
}
using std::isfinite;
using std::isinf;
using std::isnan;

namespace fastconv_emulated {
template <class To, class From> To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "the bits of another size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
// As in CUDA, what does not fit becomes the nearest that does, and NaN zero.
template <class To> To saturated(float v) {
  const double low = std::is_signed<To>::value ? -2147483648.0 : 0.0;
  const double high = std::is_signed<To>::value ? 2147483647.0 : 4294967295.0;
  return std::isnan(v) ? 0 : To(double(v) < low ? low : double(v) > high ? high : double(v));
}
}  // namespace fastconv_emulated
inline int __float_as_int(float v) { return fastconv_emulated::bits_of<int>(v); }
inline unsigned __float_as_uint(float v) { return fastconv_emulated::bits_of<unsigned>(v); }
inline float __int_as_float(int v) { return fastconv_emulated::bits_of<float>(v); }
inline float __uint_as_float(unsigned v) { return fastconv_emulated::bits_of<float>(v); }
inline int __float2int_rn(float v) { return fastconv_emulated::saturated<int>(nearbyintf(v)); }
inline int __float2int_rz(float v) { return fastconv_emulated::saturated<int>(truncf(v)); }
inline int __float2int_rd(float v) { return fastconv_emulated::saturated<int>(floorf(v)); }
inline int __float2int_ru(float v) { return fastconv_emulated::saturated<int>(ceilf(v)); }
inline unsigned __float2uint_rn(float v) { return fastconv_emulated::saturated<unsigned>(nearbyintf(v)); }
inline unsigned __float2uint_rz(float v) { return fastconv_emulated::saturated<unsigned>(truncf(v)); }
inline float __int2float_rn(int v) { return float(v); }
inline float __uint2float_rn(unsigned v) { return float(v); }

inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return sqrtf(v); }
inline float __frsqrt_rn(float v) { return 1.0f / sqrtf(v); }
inline float __expf(float v) { return expf(v); }
inline float __exp10f(float v) { return powf(10.0f, v); }
inline float __logf(float v) { return logf(v); }
inline float __log2f(float v) { return log2f(v); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __sinf(float v) { return sinf(v); }
inline float __cosf(float v) { return cosf(v); }
inline float __tanf(float v) { return tanf(v); }

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#endif  // FASTCONV_EMULATOR
