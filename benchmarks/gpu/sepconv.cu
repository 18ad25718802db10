// Prototype: depthwise 3x3 (pad 1) + bias + ReLU, then pointwise + bias + ReLU in one kernel, FP32, NHWC (BatchNorm folded into weights and biases).
// The pointwise product's A tile is the depthwise result, computed straight into shared memory; each block recomputes it for its BN outputs.
#ifndef CUEMU
#include <cuda_runtime.h>
#endif
struct Sep { const float *x, *dw, *db, *pw, *pb; float* y; int n, h, wd, c, o, oh, ow, stride; };   // dw [9][c], pw [c][o]; c a multiple of 16, o of 4
template <int BM, int BN, int TM, int TN, int BLOCKS> __global__ void __launch_bounds__(BM / TM * (BN / TN), BLOCKS) sepconv(Sep p) {
  constexpr int THREADS = BM / TM * (BN / TN), BK = 16, AL = BM * 4 / THREADS, BL = BN * 4 / THREADS, PITCH = 20; static_assert(THREADS % 4 == 0, "");
  __shared__ __align__(16) float sa[2][BM][PITCH]; __shared__ __align__(16) float sb[2][BK][BN];
  int m = p.n * p.oh * p.ow, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, steps = p.c / BK, t = threadIdx.x, tx = t % (BN / TN), ty = t / (BN / TN), c4 = t % 4 * 4;
  int at[AL]; unsigned inside[AL];
#pragma unroll
  for (int i = 0; i < AL; ++i) {
    int r = m0 + (i * THREADS + t) / 4, q = r / p.ow, b = q / p.oh, y = (q - b * p.oh) * p.stride - 1, x = (r - q * p.ow) * p.stride - 1; at[i] = (b * p.h + y) * p.wd + x; inside[i] = 0;
    for (int k = 0; k < 9; ++k) inside[i] |= (r < m && (unsigned)(y + k / 3) < (unsigned)p.h && (unsigned)(x + k % 3) < (unsigned)p.wd ? 1u : 0u) << k;
  }
  float4 ra[AL], rb[BL];
  auto fetch = [&](int step) {                                              // 9 taps x 4 channels per pixel, and the pointwise weights
    int c = step * BK + c4; float4 w[9], bias = *(const float4*)(p.db + c);
#pragma unroll
    for (int k = 0; k < 9; ++k) w[k] = *(const float4*)(p.dw + k * p.c + c);
#pragma unroll
    for (int i = 0; i < AL; ++i) {
      float4 s = bias;
#pragma unroll
      for (int k = 0; k < 9; ++k) {
        float4 v = make_float4(0.f, 0.f, 0.f, 0.f); if (inside[i] >> k & 1) v = *(const float4*)(p.x + (size_t)(at[i] + k / 3 * p.wd + k % 3) * p.c + c);
        s.x += v.x * w[k].x; s.y += v.y * w[k].y; s.z += v.z * w[k].z; s.w += v.w * w[k].w;
      }
      ra[i] = make_float4(fmaxf(s.x, 0.f), fmaxf(s.y, 0.f), fmaxf(s.z, 0.f), fmaxf(s.w, 0.f));
    }
#pragma unroll
    for (int i = 0; i < BL; ++i) { int id = i * THREADS + t, k = id / (BN / 4), n = n0 + id % (BN / 4) * 4; rb[i] = make_float4(0.f, 0.f, 0.f, 0.f); if (n < p.o) rb[i] = *(const float4*)(p.pw + (size_t)(step * BK + k) * p.o + n); }
  };
  auto put = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < AL; ++i) *(float4*)&sa[buffer][(i * THREADS + t) / 4][c4] = ra[i];
#pragma unroll
    for (int i = 0; i < BL; ++i) { int id = i * THREADS + t; *(float4*)&sb[buffer][id / (BN / 4)][id % (BN / 4) * 4] = rb[i]; }
  };
  float d[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TN; ++j) d[i][j] = 0.f;
  fetch(0); put(0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    int b = step & 1; __syncthreads(); if (step + 1 < steps) fetch(step + 1);
#pragma unroll
    for (int k = 0; k < BK; k += 4) {
      float a[TM][4], w[4][TN];
#pragma unroll
      for (int i = 0; i < TM; ++i) { float4 v = *(const float4*)&sa[b][ty + i * (BM / TM)][k]; a[i][0] = v.x; a[i][1] = v.y; a[i][2] = v.z; a[i][3] = v.w; }
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int j = 0; j < TN; j += 4) { float4 v = *(const float4*)&sb[b][k + q][j / 4 * (BN / TN) * 4 + tx * 4]; w[q][j] = v.x; w[q][j + 1] = v.y; w[q][j + 2] = v.z; w[q][j + 3] = v.w; }
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
          for (int j = 0; j < TN; ++j) d[i][j] += a[i][q] * w[q][j];
    }
    if (step + 1 < steps) put(b ^ 1);
  }
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    int row = m0 + ty + i * (BM / TM); if (row >= m) continue;
#pragma unroll
    for (int j = 0; j < TN; j += 4) {
      int col = n0 + j / 4 * (BN / TN) * 4 + tx * 4; if (col >= p.o) continue; float4 v = *(const float4*)(p.pb + col);
      *(float4*)(p.y + (size_t)row * p.o + col) = make_float4(fmaxf(d[i][j] + v.x, 0.f), fmaxf(d[i][j + 1] + v.y, 0.f), fmaxf(d[i][j + 2] + v.z, 0.f), fmaxf(d[i][j + 3] + v.w, 0.f));
    }
  }
}
#ifndef CUEMU
#define G(BM, BN, TM, TN, BL) {"sepconv " #BM "x" #BN " thread " #TM "x" #TN " blocks " #BL, sepconv<BM, BN, TM, TN, BL>, BM, BN, BM / TM * (BN / TN)}
static const struct { const char* name; void (*kernel)(Sep); int bm, bn, threads; } configs[] = {G(64, 64, 8, 4, 3), G(64, 64, 4, 4, 2), G(128, 64, 8, 4, 2), G(64, 128, 8, 8, 2), G(128, 128, 8, 8, 1), G(128, 128, 8, 8, 2), G(64, 128, 8, 4, 2), G(128, 64, 8, 8, 2), G(32, 256, 8, 8, 2), G(64, 256, 8, 8, 1)};
extern "C" int sep_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* sep_name(int i) { return configs[i].name; }
extern "C" int sep_run(int i, const float* x, const float* dw, const float* db, const float* pw, const float* pb, float* y, int n, int h, int c, int o, int stride, cudaStream_t st) {
  auto& f = configs[i]; int oh = (h - 1) / stride + 1, m = n * oh * oh; f.kernel<<<dim3((m + f.bm - 1) / f.bm, (o + f.bn - 1) / f.bn), f.threads, 0, st>>>(Sep{x, dw, db, pw, pb, y, n, h, h, c, o, oh, oh, stride}); return cudaGetLastError();
}
#endif
