// Prototypes of xnor_gemm: C[m][n] = K - 2 popc(A[m] ^ B[n]) as float; A [M][K/32], B [N][K/32] packed words, K a multiple of 128 bits.
// 1. popc_gemm: __popc on u32, 2. popc_gemm with carry-save adders, 3. bmma_gemm and bmma2_gemm: mma.sync m16n8k256 and.popc.
// All: rows of 128 bytes (1024 bits) in shared memory, 16-byte chunks swizzled (chunk ^ row % 8), cp.async, STAGES deep, zero fill at the edges.
// Runs on the CPU too (test_emu.cc).
#ifndef CUEMU
#include <cuda_runtime.h>
typedef unsigned smem_t;                                                    // address in shared memory
__device__ __forceinline__ smem_t smem_of(const void* p) { return (smem_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(smem_t s, const void* g, bool in) { asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" :: "r"(s), "l"(g), "r"(in ? 16 : 0)); }
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void copy_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N)); }
__device__ __forceinline__ void ldmatrix4(unsigned* r, smem_t s) { asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory"); }
__device__ __forceinline__ uint4 load16(smem_t s) { uint4 v; asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(s) : "memory"); return v; }
__device__ __forceinline__ void bmma_and(int* d, const unsigned* a, const unsigned* b) {
  asm volatile("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); }
__device__ __forceinline__ void store2(float* p, float x, float y) { __stcs((float2*)p, make_float2(x, y)); }
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#else
typedef char* smem_t;
inline smem_t smem_of(const void* p) { return (smem_t)p; }
inline void copy16(smem_t s, const void* g, bool in) { if (in) memcpy(s, g, 16); else memset(s, 0, 16); }
inline void copy_commit() {}
template <int N> void copy_wait() {}
inline void ldmatrix4(unsigned* r, smem_t s) { for (int i = 0; i < 4; ++i) { smem_t q = cuemu::exchange(s, 8 * i + cuemu::lane() / 4); memcpy(&r[i], q + 4 * (cuemu::lane() % 4), 4); } }
inline uint4 load16(smem_t s) { uint4 v; memcpy(&v, s, 16); return v; }
inline void bmma_and(int* d, const unsigned* a, const unsigned* b) { cuemu_bmma<true>(d, a, b); }
inline void store2(float* p, float x, float y) { p[0] = x; p[1] = y; }
alignas(1024) static unsigned char cuemu_dynamic[256 << 10];
#define DYNAMIC_SHARED(name) unsigned char* name = cuemu_dynamic
#endif
struct Gemm { const unsigned char *a, *b; const int *pa, *pb; float* c; int m, n, kbytes; };   // pa, pb: set bits per row

// rows x 128 bytes from g (row pitch kbytes) at byte column k into shared memory
template <int ROWS, int THREADS> __device__ __forceinline__ void load_tile(smem_t s, const unsigned char* g, int row0, int rows, int k, int kbytes) {
#pragma unroll
  for (int i = 0; i < ROWS * 8 / THREADS; ++i) {
    int id = i * THREADS + (int)threadIdx.x, r = id / 8, c = id % 8;
    bool in = row0 + r < rows && k + c * 16 < kbytes;
    copy16(s + r * 128 + ((c ^ (r & 7)) << 4), in ? g + (size_t)(row0 + r) * kbytes + k + c * 16 : g, in);
  }
}

// the same with what does not change from step to step computed once
template <int ROWS, int THREADS> struct Loader {
  static constexpr int COUNT = ROWS * 8 / THREADS, APART = THREADS / 8; static_assert(APART % 8 == 0, "one swizzle for all rows of a thread");
  const unsigned char *g, *safe; size_t pitch; unsigned mask; int offset, column;
  __device__ __forceinline__ Loader(const unsigned char* p, int row0, int rows, int kbytes) {
    int r = threadIdx.x / 8, c = threadIdx.x % 8; safe = p; g = p + (size_t)(row0 + r) * kbytes + c * 16; pitch = (size_t)APART * kbytes; column = kbytes - c * 16; offset = r * 128 + ((c ^ (r & 7)) << 4); mask = 0;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) mask |= (row0 + r + i * APART < rows ? 1u : 0u) << i;
  }
  __device__ __forceinline__ void operator()(smem_t s, int k) const {
    unsigned m = k < column ? mask : 0; const unsigned char* q = g + k; s += offset;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) { bool in = m >> i & 1; copy16(s + i * APART * 128, in ? q : safe, in); q += pitch; }
  }
};

// the pipeline all kernels share: compute(stage address) for every 1024 bits
template <int BM, int BN, int STAGES, int THREADS, class F> __device__ __forceinline__ void pipeline(const Gemm& p, int m0, int n0, smem_t base, F compute) {
  constexpr int STAGE = (BM + BN) * 128; int steps = (p.kbytes + 127) / 128;
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < steps) { load_tile<BM, THREADS>(base + s * STAGE, p.a, m0, p.m, s * 128, p.kbytes); load_tile<BN, THREADS>(base + s * STAGE + BM * 128, p.b, n0, p.n, s * 128, p.kbytes); }
    copy_commit();
  }
  int in = STAGES - 1, out = 0;
#pragma unroll 1
  for (int k = 0; k < steps; ++k) {
    copy_wait<STAGES - 2>(); __syncthreads();
    if (k + STAGES - 1 < steps) { smem_t s = base + in * STAGE; int kb = (k + STAGES - 1) * 128; load_tile<BM, THREADS>(s, p.a, m0, p.m, kb, p.kbytes); load_tile<BN, THREADS>(s + BM * 128, p.b, n0, p.n, kb, p.kbytes); }
    copy_commit();
    compute(base + out * STAGE);
    in = in + 1 == STAGES ? 0 : in + 1; out = out + 1 == STAGES ? 0 : out + 1;
  }
}

template <int BM, int BN, int WM, int WN, int STAGES, int BLOCKS> __global__ void __launch_bounds__(BM / WM * (BN / WN) * 32, BLOCKS) bmma_gemm(Gemm p) {
  constexpr int THREADS = BM / WM * (BN / WN) * 32, FM = WM / 16, FN = WN / 8;
  DYNAMIC_SHARED(shared); smem_t base = smem_of(shared);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN;
  int d[FM][FN][4];
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int j = 0; j < FN; ++j)
#pragma unroll
      for (int q = 0; q < 4; ++q) d[i][j][q] = 0;
  int arow = (wm + (lane & 15)) * 128, ax = (((lane >> 4) ^ (lane & 7)) << 4);                            // ldmatrix: rows 0-15, then the second 16 bytes
  int brow = BM * 128 + (wn + (lane >> 4) * 8 + (lane & 7)) * 128, bx = ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
  pipeline<BM, BN, STAGES, THREADS>(p, m0, n0, base, [&](smem_t s) {
    unsigned a[2][FM][4], b[2][FN / 2][4];
    auto fetch = [&](int k, int at) {
#pragma unroll
      for (int i = 0; i < FM; ++i) ldmatrix4(a[at][i], s + arow + i * 2048 + (ax ^ (k << 5)));
#pragma unroll
      for (int j = 0; j < FN / 2; ++j) ldmatrix4(b[at][j], s + brow + j * 2048 + (bx ^ (k << 5)));
    };
    fetch(0, 0);
#pragma unroll
    for (int k = 0; k < 4; ++k) {                                           // 256 bits each, fragments one step ahead
      if (k < 3) fetch(k + 1, (k + 1) & 1);
#pragma unroll
      for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j) bmma_and(d[i][j], a[k & 1][i], &b[k & 1][j / 2][j % 2 * 2]);
    }
  });
  int bits = p.kbytes * 8;
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int row = m0 + wm + i * 16 + h * 8 + lane / 4; if (row >= p.m) continue;
      int left = bits - 2 * p.pa[row];
#pragma unroll
      for (int j = 0; j < FN; ++j) {
        int col = n0 + wn + j * 8 + lane % 4 * 2; float* c = p.c + (size_t)row * p.n + col;
        if (col + 1 < p.n && p.n % 2 == 0) store2(c, (float)(left - 2 * p.pb[col] + 4 * d[i][j][2 * h]), (float)(left - 2 * p.pb[col + 1] + 4 * d[i][j][2 * h + 1]));
        else for (int q = 0; q < 2; ++q) if (col + q < p.n) c[q] = (float)(left - 2 * p.pb[col + q] + 4 * d[i][j][2 * h + q]);
      }
    }
}

// the same with the first fragments of the next stage fetched before the last products of this one
template <int BM, int BN, int WM, int WN, int STAGES, int BLOCKS> __global__ void __launch_bounds__(BM / WM * (BN / WN) * 32, BLOCKS) bmma2_gemm(Gemm p) {
  constexpr int THREADS = BM / WM * (BN / WN) * 32, FM = WM / 16, FN = WN / 8;
  DYNAMIC_SHARED(shared); smem_t base = smem_of(shared);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN;
  int d[FM][FN][4];
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int j = 0; j < FN; ++j)
#pragma unroll
      for (int q = 0; q < 4; ++q) d[i][j][q] = 0;
  int arow = (wm + (lane & 15)) * 128, ax = (((lane >> 4) ^ (lane & 7)) << 4);                            // ldmatrix: rows 0-15, then the second 16 bytes
  int brow = BM * 128 + (wn + (lane >> 4) * 8 + (lane & 7)) * 128, bx = ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
  constexpr int STAGE = (BM + BN) * 128; int steps = (p.kbytes + 127) / 128;
  const Loader<BM, THREADS> la(p.a, m0, p.m, p.kbytes); const Loader<BN, THREADS> lb(p.b, n0, p.n, p.kbytes);
  auto load = [&](int step, int stage) {
    if (step < steps) { smem_t s = base + stage * STAGE; la(s, step * 128); lb(s + BM * 128, step * 128); }
    copy_commit();
  };
  unsigned a[2][FM][4], b[2][FN / 2][4];
  auto fetch = [&](smem_t s, int k, int at) {
#pragma unroll
    for (int i = 0; i < FM; ++i) ldmatrix4(a[at][i], s + arow + i * 2048 + (ax ^ (k << 5)));
#pragma unroll
    for (int j = 0; j < FN / 2; ++j) ldmatrix4(b[at][j], s + brow + j * 2048 + (bx ^ (k << 5)));
  };
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) load(s, s);
  copy_wait<STAGES - 2>(); __syncthreads(); fetch(base, 0, 0);
  int stage = 0, in = STAGES - 1;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    load(step + STAGES - 1, in); in = in + 1 == STAGES ? 0 : in + 1;         // the stage whose last fragments were read before the last barrier
    smem_t s = base + stage * STAGE; stage = stage + 1 == STAGES ? 0 : stage + 1;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k < 3) fetch(s, k + 1, (k + 1) & 1);
      else { copy_wait<STAGES - 2>(); __syncthreads(); fetch(base + stage * STAGE, 0, 0); }   // past the last stage: old bytes, unused
#pragma unroll
      for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j) bmma_and(d[i][j], a[k & 1][i], &b[k & 1][j / 2][j % 2 * 2]);
    }
  }
  int bits = p.kbytes * 8;
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int row = m0 + wm + i * 16 + h * 8 + lane / 4; if (row >= p.m) continue;
      int left = bits - 2 * p.pa[row];
#pragma unroll
      for (int j = 0; j < FN; ++j) {
        int col = n0 + wn + j * 8 + lane % 4 * 2; float* c = p.c + (size_t)row * p.n + col;
        if (col + 1 < p.n && p.n % 2 == 0) store2(c, (float)(left - 2 * p.pb[col] + 4 * d[i][j][2 * h]), (float)(left - 2 * p.pb[col + 1] + 4 * d[i][j][2 * h + 1]));
        else for (int q = 0; q < 2; ++q) if (col + q < p.n) c[q] = (float)(left - 2 * p.pb[col + q] + 4 * d[i][j][2 * h + q]);
      }
    }
}

__device__ __forceinline__ void csa(unsigned& h, unsigned& l, unsigned a, unsigned b, unsigned c) { unsigned x = a ^ b ^ c; h = (a & b) | (c & (a ^ b)); l = x; }

// 256 threads as 16 x 16, each TM x TN results; CSA 0: popc per word, 1: 8 words in 4 popc
template <int TM, int TN, int CSA, int STAGES, int BLOCKS> __global__ void __launch_bounds__(256, BLOCKS) popc_gemm(Gemm p) {
  constexpr int BM = 16 * TM, BN = 16 * TN, V = CSA ? 2 : 1;
  DYNAMIC_SHARED(shared); smem_t base = smem_of(shared);
  int tx = threadIdx.x % 16, ty = threadIdx.x / 16, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN; int d[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TN; ++j) d[i][j] = 0;
  pipeline<BM, BN, STAGES, 256>(p, m0, n0, base, [&](smem_t s) {
    smem_t sa = s + ty * 128, sb = s + BM * 128 + tx * 128; int xa = (ty & 7) << 4, xb = (tx & 7) << 4;
#pragma unroll(CSA ? 1 : 2)
    for (int k = 0; k < 8; k += V) {
      unsigned b[TN][4 * V];
#pragma unroll
      for (int j = 0; j < TN; ++j)
#pragma unroll
        for (int v = 0; v < V; ++v) { uint4 w = load16(sb + j * 2048 + (((k + v) << 4) ^ xb)); b[j][4 * v] = w.x; b[j][4 * v + 1] = w.y; b[j][4 * v + 2] = w.z; b[j][4 * v + 3] = w.w; }
#pragma unroll
      for (int i = 0; i < TM; ++i) {
        unsigned a[4 * V];
#pragma unroll
        for (int v = 0; v < V; ++v) { uint4 w = load16(sa + i * 2048 + (((k + v) << 4) ^ xa)); a[4 * v] = w.x; a[4 * v + 1] = w.y; a[4 * v + 2] = w.z; a[4 * v + 3] = w.w; }
#pragma unroll
        for (int j = 0; j < TN; ++j) {
          if (!CSA) {
#pragma unroll
            for (int w = 0; w < 4; ++w) d[i][j] += __popc(a[w] ^ b[j][w]);
          } else {
            unsigned x[8];
#pragma unroll
            for (int w = 0; w < 4 * V; ++w) x[w & 7] = a[w] ^ b[j][w];
            unsigned c0, s0, c1, s1, c2, s2, c4, s4;
            csa(c0, s0, x[0], x[1], x[2]); csa(c1, s1, x[3], x[4], x[5]); csa(c2, s2, s0, s1, x[6]);
            unsigned s3 = s2 ^ x[7], c3 = s2 & x[7]; csa(c4, s4, c0, c1, c2); unsigned s5 = s4 ^ c3, c5 = s4 & c3;
            d[i][j] += __popc(s3) + 2 * __popc(s5) + 4 * (__popc(c4) + __popc(c5));
          }
        }
      }
    }
  });
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    int row = m0 + ty + 16 * i; if (row >= p.m) continue;
#pragma unroll
    for (int j = 0; j < TN; ++j) { int col = n0 + tx + 16 * j; if (col < p.n) p.c[(size_t)row * p.n + col] = (float)(p.kbytes * 8 - 2 * d[i][j]); }
  }
}

// sign bits (x >= 0) and set bits per row: one warp per row, float4 per lane and 4 ballots; within 128 elements word c bit i = element 4 i + c
// (both operands share the permutation, so products do not see it). K a multiple of 128.
__global__ void __launch_bounds__(256) pack_rows(const float* __restrict__ x, unsigned* __restrict__ y, int* __restrict__ set, int rows, int k) {
  int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x & 31; if (row >= rows) return;
  const float4* p = (const float4*)(x + (size_t)row * k) + lane; unsigned* q = y + (size_t)row * (k / 32); int count = 0;
  for (int at = 0; at < k / 128; at += 8) {
    float4 v[8]; unsigned mine = 0;
#pragma unroll
    for (int u = 0; u < 8; ++u) if (at + u < k / 128) v[u] = p[(at + u) * 32]; else v[u] = make_float4(-1.f, -1.f, -1.f, -1.f);
#pragma unroll
    for (int u = 0; u < 8; ++u) {
      unsigned b0 = __ballot_sync(~0u, v[u].x >= 0.f), b1 = __ballot_sync(~0u, v[u].y >= 0.f), b2 = __ballot_sync(~0u, v[u].z >= 0.f), b3 = __ballot_sync(~0u, v[u].w >= 0.f);
      if (lane / 4 == u) mine = (lane & 2) ? (lane & 1 ? b3 : b2) : (lane & 1 ? b1 : b0);
    }
    if (at * 4 + lane < k / 32) q[at * 4 + lane] = mine;
    count += __popc(mine);
  }
  for (int m = 16; m; m >>= 1) count += __shfl_xor_sync(~0u, count, m);
  if (lane == 0) set[row] = count;
}

// one m16n8k256 product by one warp: A [16][8 words], B [8][8 words] -> D [16][8]; the layout question alone
__global__ void fragment(const unsigned* a, const unsigned* b, int* c) {
  int t = threadIdx.x; unsigned x[4], w[2]; int d[4] = {0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) x[i] = a[(i % 2 * 8 + t / 4) * 8 + i / 2 * 4 + t % 4];
  for (int i = 0; i < 2; ++i) w[i] = b[t / 4 * 8 + i * 4 + t % 4];
  bmma_and(d, x, w);
  for (int i = 0; i < 4; ++i) c[(i / 2 * 8 + t / 4) * 8 + t % 4 * 2 + i % 2] = d[i];
}

#if !defined(CUEMU) && !defined(XNOR_KERNELS_ONLY)
typedef void (*Kernel)(Gemm);
struct Config { const char* name; Kernel kernel; int bm, bn, threads, shared; };
#define B(BM, BN, WM, WN, S, BL) {"bmma " #BM "x" #BN " warp " #WM "x" #WN " stages " #S " blocks " #BL, bmma_gemm<BM, BN, WM, WN, S, BL>, BM, BN, BM / WM * (BN / WN) * 32, S * (BM + BN) * 128}
#define B2(BM, BN, WM, WN, S, BL) {"bmma2 " #BM "x" #BN " warp " #WM "x" #WN " stages " #S " blocks " #BL, bmma2_gemm<BM, BN, WM, WN, S, BL>, BM, BN, BM / WM * (BN / WN) * 32, S * (BM + BN) * 128}
#define P(TM, TN, C, S, BL) {"popc thread " #TM "x" #TN " csa " #C " stages " #S " blocks " #BL, popc_gemm<TM, TN, C, S, BL>, 16 * TM, 16 * TN, 256, S * 16 * (TM + TN) * 128}
static const Config configs[] = {
#ifdef CONFIGS
  CONFIGS
#else
  P(8, 4, 0, 3, 2), P(4, 4, 0, 3, 4), P(8, 4, 1, 3, 2), P(4, 4, 1, 3, 3),
  B(64, 64, 32, 32, 3, 3), B(128, 128, 64, 64, 3, 2), B(128, 128, 64, 64, 2, 2), B(128, 256, 64, 64, 3, 1), B(256, 128, 64, 32, 4, 1),
  B2(64, 64, 32, 32, 3, 3), B2(64, 128, 32, 64, 3, 2), B2(128, 128, 64, 32, 3, 1), B2(128, 128, 64, 64, 3, 2), B2(128, 128, 64, 32, 3, 2), B2(128, 256, 64, 64, 4, 1), B2(256, 128, 64, 64, 4, 1), B2(256, 128, 64, 64, 3, 1), B2(256, 128, 64, 32, 4, 1), B2(128, 128, 32, 64, 3, 2),
#endif
};
extern "C" int xnor_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* xnor_name(int i) { return configs[i].name; }
extern "C" int xnor_gemm(int i, const void* a, const void* b, const int* pa, const int* pb, float* c, int m, int n, int kbytes, int times, cudaStream_t st) {
  const Config& f = configs[i]; if (cudaError_t e = cudaFuncSetAttribute(f.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, f.shared)) return e;
  Gemm g{(const unsigned char*)a, (const unsigned char*)b, pa, pb, c, m, n, kbytes}; dim3 grid((m + f.bm - 1) / f.bm, (n + f.bn - 1) / f.bn);
  for (int t = 0; t < times; ++t) f.kernel<<<grid, f.threads, f.shared, st>>>(g);
  return cudaGetLastError();
}
extern "C" int xnor_pack(const float* x, unsigned* y, int* set, int rows, int k, int times, cudaStream_t st) {
  for (int t = 0; t < times; ++t) pack_rows<<<(rows + 7) / 8, 256, 0, st>>>(x, y, set, rows, k);
  return cudaGetLastError();
}
// float operands: pack A (and B if packed_b is 0), then the product
extern "C" int xnor_full(int i, const float* a, const float* b, unsigned* wa, unsigned* wb, int* pa, int* pb, float* c, int m, int n, int k, int packed_b, int times, cudaStream_t st) {
  for (int t = 0; t < times; ++t) {
    if (int e = xnor_pack(a, wa, pa, m, k, 1, st)) return e;
    if (!packed_b) if (int e = xnor_pack(b, wb, pb, n, k, 1, st)) return e;
    if (int e = xnor_gemm(i, wa, wb, pa, pb, c, m, n, k / 8, 1, st)) return e;
  }
  return 0;
}
extern "C" int xnor_fragment(const unsigned* a, const unsigned* b, int* c, cudaStream_t st) { fragment<<<1, 32, 0, st>>>(a, b, c); return cudaGetLastError(); }
#endif
