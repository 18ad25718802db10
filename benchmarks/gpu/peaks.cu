// Peaks of one GPU, each the median of 7 timed launches: arithmetic, binary and byte tensor cores, memory, launches.
// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a peaks.cu -o peaks && ./peaks > peaks.json
#include <cuda_runtime.h>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define CHECK(e) do { cudaError_t r_ = (e); if (r_ != cudaSuccess) { fprintf(stderr, "%s:%d %s\n", __FILE__, __LINE__, cudaGetErrorString(r_)); exit(1); } } while (0)
constexpr int REPEATS = 7;
int sms; bool first = true;
unsigned long long* cycles;                                                 // longest block's clock64 difference, per launch

struct Span {                                                               // in-kernel cycles, so that a rate per clock needs no guess of the clock
  long long t0; unsigned long long* out;
  __device__ Span(unsigned long long* o) : out(o) { __syncthreads(); t0 = clock64(); }
  __device__ ~Span() { __syncthreads(); if (threadIdx.x == 0) atomicMax(out, (unsigned long long)(clock64() - t0)); }
};
struct Time { double ms; double cycles; };
Time measure(const std::function<void()>& f) {
  cudaEvent_t a, b; CHECK(cudaEventCreate(&a)); CHECK(cudaEventCreate(&b));
  std::vector<double> ms, cy;
  for (int i = 0; i < REPEATS + 2; ++i) {
    CHECK(cudaMemset(cycles, 0, 8)); CHECK(cudaEventRecord(a)); f(); CHECK(cudaGetLastError()); CHECK(cudaEventRecord(b)); CHECK(cudaEventSynchronize(b));
    float t; CHECK(cudaEventElapsedTime(&t, a, b)); unsigned long long c; CHECK(cudaMemcpy(&c, cycles, 8, cudaMemcpyDeviceToHost));
    if (i >= 2) { ms.push_back(t); cy.push_back((double)c); }
  }
  std::sort(ms.begin(), ms.end()); std::sort(cy.begin(), cy.end());
  return {ms[REPEATS / 2], cy[REPEATS / 2]};
}
void put(const char* name, double value, const char* unit) { printf("%s\n  \"%s\": [%.6g, \"%s\"]", first ? "{" : ",", name, value, unit); first = false; fflush(stdout); }
// ops: counted per SM; reported per SM and clock, and per second over the whole GPU
void rate(const char* name, double ops_per_sm, const char* unit, const std::function<void()>& f) {
  Time t = measure(f); char n[160];
  snprintf(n, 160, "%s/SM/clk", name); put(n, ops_per_sm / t.cycles, unit);
  snprintf(n, 160, "%s/s", name); put(n, ops_per_sm * sms / t.ms * 1e3, unit);
  snprintf(n, 160, "%s clock", name); put(n, t.cycles / t.ms / 1e3, "MHz (block cycles over event time, launch included)");
}

// ---- plain arithmetic. WHAT: 0 FFMA, 1 POPC, 2 xnor accumulate (LOP3 + POPC + IADD), 3 LOP3, 4 IADD3, 5 carry-save adder (2 LOP3 with 3 words), 6 IMAD
template <int WHAT> __global__ void __launch_bounds__(1024, 1) alu(unsigned* out, int steps, unsigned seed, unsigned long long* cy) {
  unsigned v[16], a[4], b[4]; float f[16];
  for (int i = 0; i < 16; ++i) { v[i] = seed * (i + 1) + threadIdx.x; f[i] = v[i] * 1e-9f; }
  for (int i = 0; i < 4; ++i) { a[i] = seed * 7 * (i + 3) ^ threadIdx.x; b[i] = seed * 13 * (i + 5) + threadIdx.x; }
  float fa = seed * 1e-12f + 0.999f, fb = seed * 1e-12f;
  Span span(cy);
#pragma unroll 1
  for (int s = 0; s < steps; ++s) {
#pragma unroll
    for (int u = 0; u < 4; ++u)
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        if (WHAT == 0) asm volatile("fma.rn.f32 %0,%0,%1,%2;" : "+f"(f[i]) : "f"(fa), "f"(fb));
        if (WHAT == 1) asm volatile("popc.b32 %0,%0;" : "+r"(v[i]));
        if (WHAT == 2) { v[i] += __popc(a[i & 3] ^ b[i >> 2]); if (i == 15) for (int k = 0; k < 4; ++k) asm volatile("add.u32 %0,%0,%1;" : "+r"(a[k]) : "r"(b[k])); }   // new words every 16 products
        if (WHAT == 3) asm volatile("lop3.b32 %0,%0,%1,%2,0x96;" : "+r"(v[i]) : "r"(a[i & 3]), "r"(b[i & 3]));
        if (WHAT == 4) asm volatile("add.u32 %0,%0,%1;" : "+r"(v[i]) : "r"(v[(i + 5) & 15]));
        if (WHAT == 5 && (i & 1) == 0) { unsigned x = v[i], y = v[i + 1]; asm volatile("lop3.b32 %0,%2,%3,%4,0x96; lop3.b32 %1,%2,%3,%4,0xe8;" : "=&r"(v[i]), "=&r"(v[i + 1]) : "r"(x), "r"(y), "r"(a[i >> 1 & 3])); }
        if (WHAT == 6) asm volatile("mad.lo.u32 %0,%1,%2,%0;" : "+r"(v[i]) : "r"(a[i & 3]), "r"(b[i & 3]));
      }
  }
  unsigned r = 0; for (int i = 0; i < 16; ++i) r ^= v[i] ^ __float_as_uint(f[i]);
  if (r == 0x12345678u) out[threadIdx.x] = r;
}

// ---- mma.sync, 8 independent accumulators per warp
enum { B1_AND, B1_XOR, S8, S8_K16, TF32, F16 };
template <int KIND> __global__ void __launch_bounds__(512, 1) mma(unsigned* out, int steps, unsigned seed, unsigned long long* cy) {
  unsigned a[4], b[4][2]; int d[8][4];
  for (int i = 0; i < 4; ++i) { a[i] = (seed * (i + 3) ^ threadIdx.x * 2654435761u); b[i][0] = seed * (i + 9) + threadIdx.x * 40503u; b[i][1] = b[i][0] * 3; }
  if (KIND == TF32 || KIND == F16) for (int i = 0; i < 4; ++i) { a[i] = 0x3c003c00u + i; b[i][0] = b[i][1] = 0x3c013c00u + i; }
  for (int j = 0; j < 8; ++j) for (int i = 0; i < 4; ++i) d[j][i] = 0;
  Span span(cy);
#pragma unroll 1
  for (int s = 0; s < steps; ++s)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      int* c = d[j]; unsigned *w = b[j & 3];
#define MMA(text) asm volatile(text " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};" : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(w[0]), "r"(w[1]))
      if (KIND == B1_AND) MMA("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc");
      if (KIND == B1_XOR) MMA("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc");
      if (KIND == S8) MMA("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32");
      float* f = (float*)c;
      if (KIND == TF32) asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};" : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(w[0]), "r"(w[1]));
      if (KIND == F16) asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};" : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(w[0]), "r"(w[1]));
    }
  int r = 0; for (int j = 0; j < 8; ++j) for (int i = 0; i < 4; ++i) r ^= d[j][i];
  if (r == 0x12345678) out[threadIdx.x] = r;
}

// ---- wgmma, both operands from shared memory (K-major, 128-byte swizzle), one accumulator tile m64 nN per warpgroup
#include "wgmma_gen.h"
template <int KIND, int N> __global__ void __launch_bounds__(256, 1) wg(unsigned* out, int steps, unsigned seed, unsigned long long* cy) {
  extern __shared__ __align__(1024) unsigned char sm[];
  for (int i = threadIdx.x; i < 96 * 1024 / 4; i += blockDim.x) ((unsigned*)sm)[i] = (i + seed) * 2654435761u;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads();
  int g = threadIdx.x / 128; unsigned base = (unsigned)__cvta_generic_to_shared(sm);
  unsigned long long da = wg_desc(base + g * 8192), db = wg_desc(base + 16384);   // A: 64 rows x 128 B per warpgroup, B: N rows x 128 B shared by both
  int d[N / 2]; for (int i = 0; i < N / 2; ++i) d[i] = 0;
  Span span(cy);
#pragma unroll 1
  for (int s = 0; s < steps; ++s) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < 4; ++k) wgmma<KIND, N>(d, da + 2 * k, db + 2 * k);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (s % 4 == 3) asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  int r = 0; for (int i = 0; i < N / 2; ++i) r ^= d[i];
  if (r == 0x12345678) out[threadIdx.x] = r;
}

// ---- shared memory reads. WIDTH 4, 8, 16 bytes per thread, conflict free; 0: ldmatrix.x4 (512 B per warp)
template <int WIDTH> __global__ void __launch_bounds__(512, 1) lds(unsigned* out, int steps, unsigned seed, unsigned long long* cy) {
  __shared__ __align__(16) unsigned s[8192 + 64];
  for (int i = threadIdx.x; i < 8192; i += blockDim.x) s[i] = i * seed;
  __syncthreads();
  unsigned p = (unsigned)__cvta_generic_to_shared(s) + (threadIdx.x % 512) * (WIDTH ? WIDTH : 16), r = 0;
  Span span(cy);
#pragma unroll 1
  for (int k = 0; k < steps; ++k) {
    unsigned q = p + (k & 7) * 2048;
#pragma unroll
    for (int u = 0; u < 16; ++u) {
      unsigned x, y = 0, z = 0, w = 0, at = q + u * 512;
      if (WIDTH == 4) asm volatile("ld.shared.u32 %0,[%1];" : "=r"(x) : "r"(at));
      if (WIDTH == 8) asm volatile("ld.shared.v2.u32 {%0,%1},[%2];" : "=r"(x), "=r"(y) : "r"(at));
      if (WIDTH == 16) asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "r"(at));
      if (WIDTH == 0) asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "r"(at));
      r ^= x ^ y ^ z ^ w;
    }
  }
  if (r == 0x12345678u) out[threadIdx.x] = r;
}

// ---- table lookups: 4-byte shared reads at pseudo-random words of a table (ways: 0 any word, 1 every lane its own bank)
template <int OWN> __global__ void __launch_bounds__(512, 1) gather(unsigned* out, int steps, unsigned seed, unsigned long long* cy) {
  __shared__ unsigned s[8192]; for (int i = threadIdx.x; i < 8192; i += 512) s[i] = i * seed; __syncthreads();
  unsigned base = (unsigned)__cvta_generic_to_shared(s), r = 0, at[8]; for (int u = 0; u < 8; ++u) { unsigned h = (threadIdx.x * 8 + u + seed) * 2654435761u; h ^= h >> 15; h *= 2246822519u; h ^= h >> 13; at[u] = base + (OWN ? ((h & 255) * 32 + (threadIdx.x & 31)) * 4 : (h & 8191) * 4); }
  Span span(cy);
#pragma unroll 1
  for (int k = 0; k < steps; ++k)
#pragma unroll
    for (int u = 0; u < 8; ++u) { unsigned x; asm volatile("ld.volatile.shared.u32 %0,[%1];" : "=r"(x) : "r"(at[u])); r ^= x; }
  if (r == 0x12345678u) out[threadIdx.x] = r;
}
// ---- latency: one thread follows pointers
__global__ void chase(const unsigned* p, int n, unsigned at, unsigned* out, unsigned long long* cy) {
  if (n < 10000) for (int i = 0; i < n; ++i) at = p[at];
  long long t = clock64(); for (int i = 0; i < n; ++i) at = p[at]; *cy = (unsigned long long)(clock64() - t); *out = at;
}
__global__ void links(unsigned* p, unsigned count, unsigned stride) { unsigned i = blockIdx.x * blockDim.x + threadIdx.x; if (i < count) p[(size_t)i * stride] = (unsigned)(((size_t)i + 7919u) % count) * stride; }

// ---- global memory: 16-byte reads past L1, 8 in flight per thread
__global__ void __launch_bounds__(512, 2) gread(const uint4* __restrict__ p, size_t n, int count, unsigned* out) {
  size_t t = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x % n, i = t % n; unsigned r = 0;
  for (int k = 0; k < count; k += 8) {                                       // walks around the n vectors
    uint4 v[8];
#pragma unroll
    for (int u = 0; u < 8; ++u) { asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v[u].x), "=r"(v[u].y), "=r"(v[u].z), "=r"(v[u].w) : "l"(p + i)); i += step; if (i >= n) i -= n; }
#pragma unroll
    for (int u = 0; u < 8; ++u) r ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  if (r == 0x12345678u) out[t & 1023] = r;
}
__global__ void __launch_bounds__(512, 2) gcopy(const uint4* __restrict__ p, uint4* __restrict__ q, size_t n) {
  size_t t = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x;
  for (size_t i = t; i + 3 * step < n; i += 4 * step) {
    uint4 v[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) v[u] = p[i + u * step];
#pragma unroll
    for (int u = 0; u < 4; ++u) q[i + u * step] = v[u];
  }
}
__global__ void __launch_bounds__(512, 2) gwrite(uint4* q, size_t n, unsigned v) {
  size_t t = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x;
  for (size_t i = t; i < n; i += step) q[i] = make_uint4(v, v + 1, v + 2, v + 3);
}

// ---- sign bits of float32 packed to words. WAY 0: ballot of 32 neighbours, word k bit i = element 32 k + i, 8 loads in flight.
// WAY 1: float4 per lane and 4 ballots: within each 128 elements word c bit i = element 4 i + c (a permutation both operands share).
template <int WAY> __global__ void __launch_bounds__(256) pack(const float* __restrict__ x, unsigned* __restrict__ y, size_t warps) {
  size_t w = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) / 32; int lane = threadIdx.x & 31;
  size_t step = (size_t)gridDim.x * blockDim.x / 32;
  for (; w < warps; w += step) {                                            // one warp: 1024 elements -> 32 words
    unsigned mine = 0;
    if (WAY == 0) {
      const float* p = x + w * 1024 + lane; float v[32];
#pragma unroll
      for (int u = 0; u < 32; ++u) v[u] = __ldcs(p + u * 32);
#pragma unroll
      for (int u = 0; u < 32; ++u) { unsigned b = __ballot_sync(~0u, v[u] >= 0.f); if (lane == u) mine = b; }
    } else {
      const float4* p = (const float4*)(x + w * 1024) + lane; float4 v[8];
#pragma unroll
      for (int u = 0; u < 8; ++u) v[u] = __ldcs(p + u * 32);
#pragma unroll
      for (int u = 0; u < 8; ++u) {
        unsigned b0 = __ballot_sync(~0u, v[u].x >= 0.f), b1 = __ballot_sync(~0u, v[u].y >= 0.f), b2 = __ballot_sync(~0u, v[u].z >= 0.f), b3 = __ballot_sync(~0u, v[u].w >= 0.f);
        if (lane / 4 == u) mine = (lane & 2) ? (lane & 1 ? b3 : b2) : (lane & 1 ? b1 : b0);
      }
    }
    y[w * 32 + lane] = mine;
  }
}

__global__ void empty() {}
__global__ void touch(float* p) { p[threadIdx.x] += 1.f; }
double now() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
template <class F> double host_us(F f, int n) {                             // median of 7 of the mean over n
  std::vector<double> v; for (int r = 0; r < REPEATS; ++r) { double t = now(); for (int i = 0; i < n; ++i) f(); v.push_back((now() - t) / n); CHECK(cudaDeviceSynchronize()); }
  std::sort(v.begin(), v.end()); return v[REPEATS / 2];
}

int main() {
  cudaDeviceProp p; CHECK(cudaGetDeviceProperties(&p, 0)); sms = p.multiProcessorCount;
  CHECK(cudaMalloc(&cycles, 8)); unsigned* out; CHECK(cudaMalloc(&out, 4096));
  printf("{\n  \"name\": [\"%s\", \"%d.%d\"]", p.name, p.major, p.minor); first = false;
  put("SMs", sms, ""); put("L2", p.l2CacheSize, "B"); put("shared per SM", p.sharedMemPerMultiprocessor, "B"); put("shared per block opt-in", p.sharedMemPerBlockOptin, "B");
  { int r = 40000; for (int i = 0; i < 3; ++i) alu<0><<<sms, 1024>>>(out, r, 12345, cycles); CHECK(cudaDeviceSynchronize()); }   // warm the clock

  const double thr = 4 * 256;                                               // threads per SM
  { int s = 8000; rate("FFMA", thr * s * 64, "FMA", [&] { alu<0><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 2000; rate("POPC", thr * s * 64, "POPC u32", [&] { alu<1><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 2000; rate("xnor accumulate", thr * s * 64, "LOP3+POPC+IADD u32", [&] { alu<2><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 4000; rate("LOP3", thr * s * 64, "LOP3", [&] { alu<3><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 4000; rate("IADD", thr * s * 64, "IADD", [&] { alu<4><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 4000; rate("CSA", thr * s * 32, "carry-save adders (2 LOP3)", [&] { alu<5><<<sms, 1024>>>(out, s, 12345, cycles); }); }
  { int s = 4000; rate("IMAD", thr * s * 64, "IMAD", [&] { alu<6><<<sms, 1024>>>(out, s, 12345, cycles); }); }

  const double warps = 16;
  { int s = 20000; rate("mma.sync b1 and m16n8k256", warps * s * 8 * 16 * 8 * 256 * 2., "bit op", [&] { mma<B1_AND><<<sms, 512>>>(out, s, 77, cycles); }); }
  { int s = 3000; rate("mma.sync b1 xor m16n8k256", warps * s * 8 * 16 * 8 * 256 * 2., "bit op", [&] { mma<B1_XOR><<<sms, 512>>>(out, s, 77, cycles); }); }
  { int s = 20000; rate("mma.sync s8 m16n8k32", warps * s * 8 * 16 * 8 * 32 * 2., "op", [&] { mma<S8><<<sms, 512>>>(out, s, 77, cycles); }); }
  { int s = 10000; rate("mma.sync tf32 m16n8k8", warps * s * 8 * 16 * 8 * 8 * 2., "op", [&] { mma<TF32><<<sms, 512>>>(out, s, 77, cycles); }); }
  { int s = 10000; rate("mma.sync f16 m16n8k16", warps * s * 8 * 16 * 8 * 16 * 2., "op", [&] { mma<F16><<<sms, 512>>>(out, s, 77, cycles); }); }
#define WG(KIND, N, KBITS, label) { auto k = wg<KIND, N>; CHECK(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, 98304)); int s = 3000; \
    rate(label, 2. * s * 4 * 64 * N * KBITS * 2., "op", [&] { k<<<sms, 256, 98304>>>(out, s, 77, cycles); }); }
  WG(0, 64, 256, "wgmma b1 m64n64k256") WG(0, 128, 256, "wgmma b1 m64n128k256") WG(0, 256, 256, "wgmma b1 m64n256k256")
  WG(1, 128, 32, "wgmma s8 m64n128k32") WG(1, 256, 32, "wgmma s8 m64n256k32")

  { int s = 4000; double b = 512. * s * 16; rate("LDS.32", b * 4, "B", [&] { lds<4><<<sms, 512>>>(out, s, 3, cycles); }); rate("LDS.64", b * 8, "B", [&] { lds<8><<<sms, 512>>>(out, s, 3, cycles); });
    rate("LDS.128", b * 16, "B", [&] { lds<16><<<sms, 512>>>(out, s, 3, cycles); }); rate("ldmatrix.x4", b * 16, "B", [&] { lds<0><<<sms, 512>>>(out, s, 3, cycles); }); }

  { int s = 2000; double b = 512. * s * 8 * 4; rate("shared gather, random words", b, "B", [&] { gather<0><<<sms, 512>>>(out, s, 3, cycles); }); rate("shared gather, own bank", b, "B", [&] { gather<1><<<sms, 512>>>(out, s, 3, cycles); }); }
  const size_t G = 4ull << 30; char *big, *big2; CHECK(cudaMalloc(&big, G)); CHECK(cudaMalloc(&big2, G));
  gwrite<<<sms * 4, 512>>>((uint4*)big, G / 16, 0x3f812345); CHECK(cudaDeviceSynchronize());
  for (size_t mb : {4, 8, 16, 24, 32, 40, 64}) {
    size_t n = mb << 16, t = sms * 4ull * 512; int c = 512; char name[64]; snprintf(name, 64, "L2 read, %zu MiB", mb);
    Time x = measure([&] { gread<<<sms * 4, 512>>>((uint4*)big, n, c, out); }); put(name, 16. * t * c / x.ms / 1e6, "GB/s");
  }
  { int c = (int)(G / 16 / (sms * 4 * 512) / 8 * 8); Time x = measure([&] { gread<<<sms * 4, 512>>>((uint4*)big, G / 16, c, out); }); put("HBM read 4 GiB", 16. * sms * 4 * 512 * c / x.ms / 1e6, "GB/s");
    x = measure([&] { gcopy<<<sms * 4, 512>>>((uint4*)big, (uint4*)big2, G / 16); }); put("HBM copy 4 GiB, kernel", 2. * G / x.ms / 1e6, "GB/s read + written");
    x = measure([&] { CHECK(cudaMemcpyAsync(big2, big, G, cudaMemcpyDeviceToDevice)); }); put("HBM copy 4 GiB, memcpy", 2. * G / x.ms / 1e6, "GB/s read + written");
    x = measure([&] { gwrite<<<sms * 4, 512>>>((uint4*)big2, G / 16, 5); }); put("HBM write 4 GiB", G / x.ms / 1e6, "GB/s");
    for (int grid : {4, 8, 16}) { char n[64];
      x = measure([&] { pack<0><<<sms * grid, 256>>>((float*)big, (unsigned*)big2, G / 4096); }); snprintf(n, 64, "bitpack ballot x 32, %d blocks/SM", grid); put(n, (G + G / 32.) / x.ms / 1e6, "GB/s read + written");
      x = measure([&] { pack<1><<<sms * grid, 256>>>((float*)big, (unsigned*)big2, G / 4096); }); snprintf(n, 64, "bitpack float4 + 4 ballots, %d blocks/SM", grid); put(n, (G + G / 32.) / x.ms / 1e6, "GB/s read + written"); } }
  struct { const char* name; unsigned count, stride; int n; } walks[] = {{"L1 latency (16 KiB)", 128, 32, 4096}, {"L2 latency (8 MiB)", 65536, 32, 20000}, {"HBM latency (4 GiB, one word per 512 B)", 8388608, 128, 20000}};
  for (auto& w : walks) { links<<<(w.count + 255) / 256, 256>>>((unsigned*)big, w.count, w.stride); if (w.count > 1000000) gwrite<<<sms * 4, 512>>>((uint4*)big2, G / 16, 5); Time x = measure([&] { static unsigned from = 0; from += 31; chase<<<1, 1>>>((unsigned*)big, w.n, from * 65537u % w.count * w.stride, out, cycles); }); put(w.name, x.cycles / w.n, "clocks per dependent load"); }
  CHECK(cudaFree(big2)); CHECK(cudaFree(big));

  // launches
  cudaStream_t st; CHECK(cudaStreamCreateWithFlags(&st, cudaStreamNonBlocking)); float* fp; CHECK(cudaMalloc(&fp, 4096));
  put("launch, host only", host_us([&] { empty<<<1, 32, 0, st>>>(); }, 500), "us per launch, not awaited");
  put("launch + synchronize", host_us([&] { empty<<<1, 32, 0, st>>>(); cudaStreamSynchronize(st); }, 500), "us");
  cudaEvent_t ea, eb; CHECK(cudaEventCreate(&ea)); CHECK(cudaEventCreate(&eb)); float ms;
  auto device_us = [&](const std::function<void()>& f, int n) { std::vector<double> v; for (int r = 0; r < REPEATS; ++r) { CHECK(cudaEventRecord(ea, st)); for (int i = 0; i < n; ++i) f(); CHECK(cudaEventRecord(eb, st)); CHECK(cudaEventSynchronize(eb)); CHECK(cudaEventElapsedTime(&ms, ea, eb)); v.push_back(ms * 1e3 / n); } std::sort(v.begin(), v.end()); return v[REPEATS / 2]; };
  put("stream of dependent kernels, 1 block", device_us([&] { touch<<<1, 128, 0, st>>>(fp); }, 1000), "us per kernel (events)");
  put("stream of dependent kernels, 132 blocks", device_us([&] { empty<<<132, 256, 0, st>>>(); }, 1000), "us per kernel (events)");
  for (int n : {1, 10, 50}) {
    cudaGraph_t g; cudaGraphExec_t e; CHECK(cudaStreamBeginCapture(st, cudaStreamCaptureModeThreadLocal)); for (int i = 0; i < n; ++i) touch<<<1, 128, 0, st>>>(fp);
    CHECK(cudaStreamEndCapture(st, &g)); CHECK(cudaGraphInstantiate(&e, g, 0)); CHECK(cudaGraphUpload(e, st)); CHECK(cudaStreamSynchronize(st)); char name[64];
    snprintf(name, 64, "graph of %d kernels, launch + synchronize", n); put(name, host_us([&] { cudaGraphLaunch(e, st); cudaStreamSynchronize(st); }, 300), "us per graph (host)");
    snprintf(name, 64, "graph of %d kernels, back to back", n); put(name, device_us([&] { cudaGraphLaunch(e, st); }, 300), "us per graph (events)");
    snprintf(name, 64, "graph of %d kernels, host only", n); put(name, host_us([&] { cudaGraphLaunch(e, st); }, 100), "us per graph, not awaited");
    snprintf(name, 64, "stream of %d kernels, launch + synchronize", n); put(name, host_us([&] { for (int i = 0; i < n; ++i) touch<<<1, 128, 0, st>>>(fp); cudaStreamSynchronize(st); }, 100), "us (host)");
    CHECK(cudaGraphExecDestroy(e)); CHECK(cudaGraphDestroy(g));
  }
  // the same chain with programmatic dependent launch (sm_90)
  { auto pdl = [&] { cudaLaunchConfig_t c{}; c.gridDim = 1; c.blockDim = 128; c.stream = st; cudaLaunchAttribute a{}; a.id = cudaLaunchAttributeProgrammaticStreamSerialization; a.val.programmaticStreamSerializationAllowed = 1; c.attrs = &a; c.numAttrs = 1; CHECK(cudaLaunchKernelEx(&c, empty)); };
    cudaGraph_t g; cudaGraphExec_t e; CHECK(cudaStreamBeginCapture(st, cudaStreamCaptureModeThreadLocal)); for (int i = 0; i < 50; ++i) pdl(); CHECK(cudaStreamEndCapture(st, &g)); CHECK(cudaGraphInstantiate(&e, g, 0));
    put("graph of 50 kernels, programmatic dependent launch, back to back", device_us([&] { cudaGraphLaunch(e, st); }, 300), "us per graph (events)"); }
  { cudaEvent_t a; CHECK(cudaEventCreate(&a)); put("two events around nothing", device_us([&] {}, 1), "us"); }
  printf("\n}\n"); CHECK(cudaDeviceSynchronize()); return 0;
}
