// Prototype of a dense FP32 3x3 convolution (pad 1) as an implicit product on FFMA with split K, for small batches.
// x NHWC, w [9][c][o], y [pixel][o]; part [splits][pixel][o] when K is split, summed by reduce(). c a multiple of 16, o of 4.
#ifndef CUEMU
#include <cuda_runtime.h>
typedef unsigned smem_t;
__device__ __forceinline__ smem_t smem_of(const void* p) { return (smem_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(smem_t s, const void* g, bool in) { asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" :: "r"(s), "l"(g), "r"(in ? 16 : 0)); }
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void copy_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N)); }
#else
typedef char* smem_t;
inline smem_t smem_of(const void* p) { return (smem_t)p; }
inline void copy16(smem_t s, const void* g, bool in) { if (in) memcpy(s, g, 16); else memset(s, 0, 16); }
inline void copy_commit() {}
template <int N> void copy_wait() {}
#endif
struct Conv { const float *x, *w; float* y; int n, h, wd, c, o, oh, ow, stride, splits; };
template <int BM, int BN, int TM, int TN, int STAGES> __global__ void __launch_bounds__(BM / TM * (BN / TN)) sconv(Conv p) {
  constexpr int THREADS = BM / TM * (BN / TN), BK = 16, AL = BM * 4 / THREADS, BL = BN * 4 / THREADS, PITCH = 20;   // A rows 16 floats, padded to 20
  __shared__ __align__(16) float sa[STAGES][BM][PITCH]; __shared__ __align__(16) float sb[STAGES][BK][BN];
  int m = p.n * p.oh * p.ow, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, per = p.c / BK, steps = 9 * per, t = threadIdx.x, tx = t % (BN / TN), ty = t / (BN / TN);
  int from = (int)((long long)steps * blockIdx.z / p.splits), to = (int)((long long)steps * (blockIdx.z + 1) / p.splits);
  int iy[AL], ix[AL], at[AL];
#pragma unroll
  for (int i = 0; i < AL; ++i) { int r = m0 + (i * THREADS + t) / 4, q = r / p.ow, b = q / p.oh; iy[i] = r < m ? (q - b * p.oh) * p.stride - 1 : -100; ix[i] = (r - q * p.ow) * p.stride - 1; at[i] = (b * p.h + iy[i]) * p.wd + ix[i]; }
  auto load = [&](int step, int stage) {
    if (step < to) {
      int tap = step / per, c0 = (step - tap * per) * BK, dy = tap / 3, dx = tap - dy * 3;
#pragma unroll
      for (int i = 0; i < AL; ++i) { int id = i * THREADS + t; bool in = (unsigned)(iy[i] + dy) < (unsigned)p.h && (unsigned)(ix[i] + dx) < (unsigned)p.wd;
        copy16(smem_of(&sa[stage][id / 4][id % 4 * 4]), in ? p.x + (size_t)(at[i] + dy * p.wd + dx) * p.c + c0 + id % 4 * 4 : p.x, in); }
#pragma unroll
      for (int i = 0; i < BL; ++i) { int id = i * THREADS + t, k = id / (BN / 4), n = id % (BN / 4) * 4; bool in = n0 + n < p.o; copy16(smem_of(&sb[stage][k][n]), in ? p.w + (size_t)(tap * p.c + c0 + k) * p.o + n0 + n : p.w, in); }
    }
    copy_commit();
  };
  float d[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TN; ++j) d[i][j] = 0.f;
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) load(from + s, s);
  int out = 0, in = STAGES - 1;
#pragma unroll 1
  for (int step = from; step < to; ++step) {
    copy_wait<STAGES - 2>(); __syncthreads(); load(step + STAGES - 1, in); in = in + 1 == STAGES ? 0 : in + 1;
#pragma unroll
    for (int k = 0; k < BK; k += 4) {
      float a[TM][4], b[4][TN];
#pragma unroll
      for (int i = 0; i < TM; ++i) { float4 v = *(const float4*)&sa[out][ty + i * (BM / TM)][k]; a[i][0] = v.x; a[i][1] = v.y; a[i][2] = v.z; a[i][3] = v.w; }
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int j = 0; j < TN; j += 4) { float4 v = *(const float4*)&sb[out][k + q][j / 4 * (BN / TN) * 4 + tx * 4]; b[q][j] = v.x; b[q][j + 1] = v.y; b[q][j + 2] = v.z; b[q][j + 3] = v.w; }
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
          for (int j = 0; j < TN; ++j) d[i][j] += a[i][q] * b[q][j];
    }
    out = out + 1 == STAGES ? 0 : out + 1;
  }
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    int row = m0 + ty + i * (BM / TM); if (row >= m) continue;
#pragma unroll
    for (int j = 0; j < TN; j += 4) { int col = n0 + j / 4 * (BN / TN) * 4 + tx * 4; if (col < p.o) *(float4*)(p.y + ((size_t)blockIdx.z * m + row) * p.o + col) = make_float4(d[i][j], d[i][j + 1], d[i][j + 2], d[i][j + 3]); }
  }
}
__global__ void reduce(const float4* part, float4* y, int count, int splits) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= count) return;
  float4 s = part[i]; for (int k = 1; k < splits; ++k) { float4 v = part[(size_t)k * count + i]; s.x += v.x; s.y += v.y; s.z += v.z; s.w += v.w; }
  y[i] = s;
}
#ifndef CUEMU
#define F(BM, BN, TM, TN, S) {"sconv " #BM "x" #BN " thread " #TM "x" #TN " stages " #S, sconv<BM, BN, TM, TN, S>, BM, BN, BM / TM * (BN / TN)}
static const struct { const char* name; void (*kernel)(Conv); int bm, bn, threads; } configs[] = {F(64, 64, 8, 4, 4), F(32, 64, 4, 4, 4), F(64, 64, 8, 8, 4), F(128, 64, 8, 8, 3), F(64, 128, 8, 8, 3)};
extern "C" int sconv_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* sconv_name(int i) { return configs[i].name; }
extern "C" int sconv_run(int i, const float* x, const float* w, float* part, float* y, int n, int h, int wd, int c, int o, int stride, int splits, cudaStream_t st) {
  auto& f = configs[i]; int oh = (h - 1) / stride + 1, ow = (wd - 1) / stride + 1, m = n * oh * ow; Conv q{x, w, splits > 1 ? part : y, n, h, wd, c, o, oh, ow, stride, splits};
  f.kernel<<<dim3((m + f.bm - 1) / f.bm, (o + f.bn - 1) / f.bn, splits), f.threads, 0, st>>>(q);
  if (splits > 1) reduce<<<(m * o / 4 + 255) / 256, 256, 0, st>>>((const float4*)part, (float4*)y, m * o / 4, splits);
  return cudaGetLastError();
}
#endif
