// FP32 3x3, stride 1, padding 1 by Winograd F(2,3) and F(4,3), NCHW. Three kernels: v[e][c][tp] = input tiles, m[e][o][tp] = product by u[e][c][o], y = output tiles.
// One kernel for F(2,3): products of 64 filters and 32 tiles in registers, 2 of 16 to a warp.
#include "gemm.h"
template <int M> __device__ __forceinline__ void input_vector(const float* x, float* y);
template <> __device__ __forceinline__ void input_vector<2>(const float* x, float* y) { y[0] = x[0] - x[2]; y[1] = x[1] + x[2]; y[2] = x[2] - x[1]; y[3] = x[1] - x[3]; }
template <> __device__ __forceinline__ void input_vector<4>(const float* x, float* y) {
  float a = x[4] - 4.f * x[2], b = x[3] - 4.f * x[1], c = x[4] - x[2], d = 2.f * (x[3] - x[1]);
  y[0] = 4.f * x[0] - 5.f * x[2] + x[4]; y[1] = a + b; y[2] = a - b; y[3] = c + d; y[4] = c - d; y[5] = 4.f * x[1] - 5.f * x[3] + x[5];
}
template <int M> __device__ __forceinline__ void output_vector(const float* x, float* y);
template <> __device__ __forceinline__ void output_vector<2>(const float* x, float* y) { y[0] = x[0] + x[1] + x[2]; y[1] = x[1] - x[2] - x[3]; }
template <> __device__ __forceinline__ void output_vector<4>(const float* x, float* y) {
  float a = x[1] + x[2], b = x[1] - x[2], c = x[3] + x[4], d = x[3] - x[4]; y[0] = x[0] + a + c; y[1] = b + 2.f * d; y[2] = a + 4.f * c; y[3] = b + 8.f * d + x[5];
}
struct Wino { const float *x, *u; float *v, *m, *y; int n, c, h, w, o, th, tw, t, tp, splits; };
// One thread: one tile of one channel. W4: rows of the image are whole float4 (M 4 only)
template <int M, bool W4> __global__ void __launch_bounds__(128) input_tiles(Wino p) {
  constexpr int A = M + 2; int q = blockIdx.x * 128 + threadIdx.x, c = blockIdx.y; if (q >= p.t) return;
  int row = q / p.tw, image = row / p.th, y0 = (row - image * p.th) * M - 1, x0 = (q - row * p.tw) * M - 1; const float* g = p.x + ((long long)image * p.c + c) * p.h * p.w + (long long)y0 * p.w + x0;
  float d[A][A], e[A][A];
UNROLL
  for (int i = 0; i < A; ++i) {
    bool in = (unsigned)(y0 + i) < (unsigned)p.h;
    if (W4 && M == 4) {
      float4 v = make_float4(0.f, 0.f, 0.f, 0.f); if (in) v = *(const float4*)(g + i * p.w + 1); d[i][1] = v.x; d[i][2] = v.y; d[i][3] = v.z; d[i][4 % A] = v.w;
      d[i][0] = in && x0 >= 0 ? g[i * p.w] : 0.f; d[i][A - 1] = in && x0 + A - 1 < p.w ? g[i * p.w + A - 1] : 0.f;
    } else {
UNROLL
      for (int j = 0; j < A; ++j) d[i][j] = in && (unsigned)(x0 + j) < (unsigned)p.w ? g[i * p.w + j] : 0.f;
    }
    input_vector<M>(d[i], e[i]);
  }
UNROLL
  for (int j = 0; j < A; ++j) {
    float a[A], b[A];
UNROLL
    for (int i = 0; i < A; ++i) a[i] = e[i][j];
    input_vector<M>(a, b);
UNROLL
    for (int i = 0; i < A; ++i) p.v[((long long)(i * A + j) * p.c + c) * p.tp + q] = b[i];
  }
}
template <int M, bool SPLIT> __global__ void __launch_bounds__(128) output_tiles(Wino p) {
  constexpr int A = M + 2; int q = blockIdx.x * 128 + threadIdx.x, o = blockIdx.y; if (q >= p.t) return;
  float e[A][M];
UNROLL
  for (int i = 0; i < A; ++i) {
    float r[A];
UNROLL
    for (int j = 0; j < A; ++j) {
      const float* g = p.m + ((long long)(i * A + j) * p.o + o) * p.tp + q; r[j] = *g;
      if (SPLIT) for (int s = 1; s < p.splits; ++s) r[j] += g[(long long)s * A * A * p.o * p.tp];
    }
    output_vector<M>(r, e[i]);
  }
  int row = q / p.tw, image = row / p.th, y0 = (row - image * p.th) * M, x0 = (q - row * p.tw) * M; float* g = p.y + (((long long)image * p.o + o) * p.h + y0) * p.w + x0; float f[M][M];
UNROLL
  for (int j = 0; j < M; ++j) {
    float a[A], b[M];
UNROLL
    for (int i = 0; i < A; ++i) a[i] = e[i][j];
    output_vector<M>(a, b);
UNROLL
    for (int i = 0; i < M; ++i) f[i][j] = b[i];
  }
UNROLL
  for (int i = 0; i < M; ++i) {
    if (y0 + i >= p.h) continue;
    if (p.w % M == 0) { if (M == 4) store4(g + i * p.w, f[i][0], f[i][1], f[i][M - 2], f[i][M - 1]); else *(float2*)(g + i * p.w) = make_float2(f[i][0], f[i][1]); }
    else
UNROLL
      for (int j = 0; j < M; ++j) if (x0 + j < p.w) g[i * p.w + j] = f[i][j];
  }
}
typedef int (*Product)(const Gemm&, int, cudaStream_t);
#define PRODUCT(BM, BN, TM, TN, BK, S, BL) {#BM "x" #BN " thread " #TM "x" #TN " k " #BK " stages " #S " blocks " #BL, gemm_launch<BM, BN, TM, TN, BK, S, 0, 4, BL>}
static const struct { const char* name; Product run; } products[] = {PRODUCT(128, 128, 8, 8, 8, 4, 2), PRODUCT(64, 128, 8, 8, 8, 4, 4), PRODUCT(128, 64, 8, 8, 8, 4, 4), PRODUCT(64, 64, 8, 8, 16, 3, 6), PRODUCT(64, 64, 8, 4, 16, 4, 4), PRODUCT(64, 32, 4, 4, 16, 4, 4), PRODUCT(128, 16, 4, 4, 16, 4, 4), PRODUCT(64, 16, 4, 4, 32, 3, 6), PRODUCT(128, 128, 8, 8, 16, 3, 2)};
extern "C" int wino_count() { return sizeof(products) / sizeof(products[0]); }
extern "C" const char* wino_name(int i) { return products[i].name; }
// stages: 1 input, 2 product, 4 output (7: all)
extern "C" int wino_run(int i, int f, int stages, const float* x, const float* u, float* v, float* m, float* y, int n, int c, int h, int w, int o, int tp, int splits, cudaStream_t st) {
  int th = (h + f - 1) / f, tw = (w + f - 1) / f, t = n * th * tw, e = (f + 2) * (f + 2), bad = 0; Wino p{x, u, v, m, y, n, c, h, w, o, th, tw, t, tp, splits};
  if (stages & 1) bad = f == 2 ? launch(input_tiles<2, false>, dim3((t + 127) / 128, c), dim3(128), 0, st, p) : w % 4 ? launch(input_tiles<4, false>, dim3((t + 127) / 128, c), dim3(128), 0, st, p) : launch(input_tiles<4, true>, dim3((t + 127) / 128, c), dim3(128), 0, st, p);
  if (!bad && stages & 2) bad = products[i].run(Gemm{u, v, nullptr, m, o, tp, c, o, tp, tp, tp, 0, 0, (long long)c * o, (long long)c * tp, (long long)o * tp, (long long)e * o * tp, splits, 0}, e, st);
  if (!bad && stages & 4) bad = splits == 1 ? (f == 2 ? launch(output_tiles<2, false>, dim3((t + 127) / 128, o), dim3(128), 0, st, p) : launch(output_tiles<4, false>, dim3((t + 127) / 128, o), dim3(128), 0, st, p))
                                           : (f == 2 ? launch(output_tiles<2, true>, dim3((t + 127) / 128, o), dim3(128), 0, st, p) : launch(output_tiles<4, true>, dim3((t + 127) / 128, o), dim3(128), 0, st, p));
  return bad;
}
// One kernel, F(2,3). 32 tiles x 64 filters x 8 channels a step; c a multiple of 8, o of 64. y: [splits] images when c is split
template <int CK> __global__ void __launch_bounds__(256, 1) fused2(Wino p) {
  constexpr int US = 16 * CK * 64, VS = 16 * CK * 32, STAGE = US + VS, SP = 36; DYNAMIC_SHARED(sh);
  int t = threadIdx.x, warp = t / 32, lane = t % 32, lo = lane % 8 * 4, lt = lane / 8 * 4, q0 = blockIdx.x * 32, o0 = blockIdx.y * 64, steps = p.c / CK;
  int from = (int)((long long)steps * blockIdx.z / p.splits), to = (int)((long long)steps * (blockIdx.z + 1) / p.splits), hw = p.h * p.w;
  int q = q0 + lane, row = q / p.tw, image = row / p.th, y0 = (row - image * p.th) * 2 - 1, x0 = (q - row * p.tw) * 2 - 1; unsigned inside = 0;
  for (int k = 0; k < 16; ++k) inside |= (q < p.t && (unsigned)(y0 + k / 4) < (unsigned)p.h && (unsigned)(x0 + k % 4) < (unsigned)p.w ? 1u : 0u) << k;
  const float* g = p.x + ((long long)image * p.c + warp + from * CK) * hw + y0 * p.w + x0; if (!inside) g = p.x;
  const float* pu = p.u + ((long long)(t / 16 / CK) * p.c + from * CK + t / 16 % CK) * p.o + o0 + t % 16 * 4; int ustep = 16 / CK * p.c * p.o;
  float r[CK / 8][16], d[2][8][8];
  auto fetch = [&] {
UNROLL
    for (int h = 0; h < CK / 8; ++h)
UNROLL
      for (int k = 0; k < 16; ++k) { r[h][k] = 0.f; if (inside >> k & 1) r[h][k] = __ldg(g + h * 8 * hw + k / 4 * p.w + k % 4); }
    g += CK * hw;
  };
  auto filters = [&](float* s) {
UNROLL
    for (int i = 0; i < US / 4 / 256; ++i) copy16(smem_of(s + i * 1024 + t * 4), pu + i * ustep, true);
    pu += CK * p.o; copy_commit();
  };
  auto put = [&](float* s) {
UNROLL
    for (int h = 0; h < CK / 8; ++h) {
      float e[4][4];
UNROLL
      for (int i = 0; i < 4; ++i) input_vector<2>(r[h] + i * 4, e[i]);
UNROLL
      for (int j = 0; j < 4; ++j) {
        float a[4] = {e[0][j], e[1][j], e[2][j], e[3][j]}, b[4]; input_vector<2>(a, b);
UNROLL
        for (int i = 0; i < 4; ++i) s[US + ((i * 4 + j) * CK + h * 8 + warp) * 32 + lane] = b[i];
      }
    }
  };
UNROLL
  for (int e = 0; e < 2; ++e)
UNROLL
    for (int i = 0; i < 8; ++i)
UNROLL
      for (int j = 0; j < 8; ++j) d[e][i][j] = 0.f;
  fetch(); filters(sh); put(sh);
#pragma unroll 1
  for (int step = from; step < to; ++step) {
    float *now = sh + ((step - from) & 1) * STAGE, *other = sh + ((step - from + 1) & 1) * STAGE;
    copy_wait<0>(); __syncthreads(); if (step + 1 < to) { fetch(); filters(other); }
UNROLL
    for (int e = 0; e < 2; ++e) {
      const float *su = now + (warp * 2 + e) * CK * 64, *sv = now + US + (warp * 2 + e) * CK * 32; float fa[2][8], fb[2][8];
      auto fragment = [&](int k, float (&x)[8], float (&y)[8]) {
UNROLL
        for (int i = 0; i < 8; i += 4) { float4 a = *(const float4*)(su + k * 64 + i * 8 + lo), b = *(const float4*)(sv + k * 32 + i * 4 + lt); x[i] = a.x; x[i + 1] = a.y; x[i + 2] = a.z; x[i + 3] = a.w; y[i] = b.x; y[i + 1] = b.y; y[i + 2] = b.z; y[i + 3] = b.w; }
      };
      fragment(0, fa[0], fb[0]);
UNROLL
      for (int k = 0; k < CK; ++k) {
        if (k + 1 < CK) fragment(k + 1, fa[(k + 1) & 1], fb[(k + 1) & 1]);
UNROLL
        for (int i = 0; i < 8; ++i)
UNROLL
          for (int j = 0; j < 8; ++j) d[e][i][j] += fa[k & 1][i] * fb[k & 1][j];
      }
    }
    if (step + 1 < to) put(other);
  }
  float* out = p.y + (long long)blockIdx.z * p.n * p.o * hw;
UNROLL
  for (int half = 0; half < 2; ++half) {                                    // filters half * 32 .. + 31 through shared memory
    __syncthreads();
UNROLL
    for (int e = 0; e < 2; ++e)
UNROLL
      for (int i = 0; i < 4; ++i)
UNROLL
        for (int j = 0; j < 8; j += 4) *(float4*)(sh + ((warp * 2 + e) * 32 + lo + i) * SP + j * 4 + lt) = make_float4(d[e][half * 4 + i][j], d[e][half * 4 + i][j + 1], d[e][half * 4 + i][j + 2], d[e][half * 4 + i][j + 3]);
    __syncthreads();
    if (q < p.t)
UNROLL
      for (int k = 0; k < 4; ++k) {
        int o = k * 8 + warp; float e[4][2], f[2][2];
UNROLL
        for (int i = 0; i < 4; ++i) { float a[4];
UNROLL
          for (int j = 0; j < 4; ++j) a[j] = sh[((i * 4 + j) * 32 + o) * SP + lane];
          output_vector<2>(a, e[i]); }
UNROLL
        for (int j = 0; j < 2; ++j) { float a[4] = {e[0][j], e[1][j], e[2][j], e[3][j]}, b[2]; output_vector<2>(a, b); f[0][j] = b[0]; f[1][j] = b[1]; }
        float* y = out + ((long long)image * p.o + o0 + half * 32 + o) * hw + (y0 + 1) * p.w + x0 + 1;
UNROLL
        for (int i = 0; i < 2; ++i) if (y0 + 1 + i < p.h) {
          if (p.w % 2 == 0) *(float2*)(y + i * p.w) = make_float2(f[i][0], f[i][1]);
          else { y[i * p.w] = f[i][0]; if (x0 + 2 < p.w) y[i * p.w + 1] = f[i][1]; }
        }
      }
  }
}
__global__ void add_splits(const float* part, float* y, int count, int splits) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= count) return; float s = part[i]; for (int k = 1; k < splits; ++k) s += part[(long long)k * count + i]; y[i] = s;
}
extern "C" int fused2_run(const float* x, const float* u, float* part, float* y, int n, int c, int h, int w, int o, int splits, cudaStream_t st) {
  int th = (h + 1) / 2, tw = (w + 1) / 2, t = n * th * tw, count = n * o * h * w;
  int bad = launch(fused2<8>, dim3((t + 31) / 32, o / 64, splits), dim3(256), 2 * 16 * 8 * 96 * 4, st, Wino{x, u, nullptr, nullptr, splits > 1 ? part : y, n, c, h, w, o, th, tw, t, t, splits});
  if (!bad && splits > 1) bad = launch(add_splits, dim3((count + 255) / 256), dim3(256), 0, st, (const float*)part, y, count, splits);
  return bad;
}
// One kernel, F(4,3). 32 tiles x 32 filters x 8 channels a step, 3 of 36 products to each of 12 warps; warps 0-7 transform a channel each, their pixels
// wait in shared memory. h and w multiples of 4, c of 8, o of 32.
__global__ void __launch_bounds__(384, 1) fused4(Wino p) {
  constexpr int CK = 8, US = 36 * CK * 32, STAGE = 2 * US, RAW = 2 * STAGE, HALO = RAW + 8 * 6 * 32 * 4, SP = 36; DYNAMIC_SHARED(sh);
  int t = threadIdx.x, warp = t / 32, lane = t % 32, lo = lane % 8 * 4, lt = lane / 8 * 4, q0 = blockIdx.x * 32, o0 = blockIdx.y * 32, steps = p.c / CK;
  int from = (int)((long long)steps * blockIdx.z / p.splits), to = (int)((long long)steps * (blockIdx.z + 1) / p.splits), hw = p.h * p.w;
  int q = q0 + lane, row = q / p.tw, tx = q - row * p.tw, image = row / p.th, y0 = (row - image * p.th) * 4 - 1; bool left = tx > 0, right = tx + 1 < p.tw, live = q < p.t;
  const float* g = p.x + ((long long)image * p.c + warp + from * CK) * hw + y0 * p.w + tx * 4;
  const float* pu = p.u + ((long long)(t / 64) * p.c + from * CK + t / 8 % 8) * p.o + o0 + t % 8 * 4; int ustep = 6 * p.c * p.o;
  float d[3][4][8];
  auto pixels = [&] {
    if (warp < 8)
UNROLL
      for (int i = 0; i < 6; ++i) {
        bool in = live && (unsigned)(y0 + i) < (unsigned)p.h; copy16(smem_of(sh + RAW + ((warp * 6 + i) * 32 + lane) * 4), in ? g + i * p.w : p.x, in);
        if (lane == 0) copy4(smem_of(sh + HALO + (warp * 6 + i) * 2), in && left ? g + i * p.w - 1 : p.x, in && left);
        if (lane == 31) copy4(smem_of(sh + HALO + (warp * 6 + i) * 2 + 1), in && right ? g + i * p.w + 4 : p.x, in && right);
      }
    g += CK * hw;
  };
  auto filters = [&](float* s) {
UNROLL
    for (int i = 0; i < 6; ++i) copy16(smem_of(s + i * 1536 + t * 4), pu + i * ustep, true);
    pu += CK * p.o; copy_commit();
  };
  auto put = [&](float* s) {
    if (warp >= 8) return;
    float e[6][6];
UNROLL
    for (int i = 0; i < 6; ++i) {
      float4 v = *(const float4*)(sh + RAW + ((warp * 6 + i) * 32 + lane) * 4); float x[6] = {__shfl_up_sync(~0u, v.w, 1), v.x, v.y, v.z, v.w, __shfl_down_sync(~0u, v.x, 1)};
      if (lane == 0) x[0] = sh[HALO + (warp * 6 + i) * 2];
      if (lane == 31) x[5] = sh[HALO + (warp * 6 + i) * 2 + 1];
      if (!left) x[0] = 0.f;
      if (!right) x[5] = 0.f;
      input_vector<4>(x, e[i]);
    }
UNROLL
    for (int j = 0; j < 6; ++j) {
      float a[6] = {e[0][j], e[1][j], e[2][j], e[3][j], e[4][j], e[5][j]}, b[6]; input_vector<4>(a, b);
UNROLL
      for (int i = 0; i < 6; ++i) s[US + ((i * 6 + j) * CK + warp) * 32 + lane] = b[i];
    }
  };
UNROLL
  for (int e = 0; e < 3; ++e)
UNROLL
    for (int i = 0; i < 4; ++i)
UNROLL
      for (int j = 0; j < 8; ++j) d[e][i][j] = 0.f;
  pixels(); filters(sh); copy_wait<0>(); put(sh);
#pragma unroll 1
  for (int step = from; step < to; ++step) {
    float *now = sh + ((step - from) & 1) * STAGE, *other = sh + ((step - from + 1) & 1) * STAGE;
    __syncthreads(); if (step + 1 < to) { pixels(); filters(other); }
UNROLL
    for (int e = 0; e < 3; ++e) {
      const float *su = now + (warp * 3 + e) * CK * 32 + lo, *sv = now + US + (warp * 3 + e) * CK * 32 + lt; float fa[2][4], fb[2][8];
      auto fragment = [&](int k, float (&x)[4], float (&y)[8]) {
        float4 a = *(const float4*)(su + k * 32), b = *(const float4*)(sv + k * 32), c = *(const float4*)(sv + k * 32 + 16);
        x[0] = a.x; x[1] = a.y; x[2] = a.z; x[3] = a.w; y[0] = b.x; y[1] = b.y; y[2] = b.z; y[3] = b.w; y[4] = c.x; y[5] = c.y; y[6] = c.z; y[7] = c.w;
      };
      fragment(0, fa[0], fb[0]);
UNROLL
      for (int k = 0; k < CK; ++k) {
        if (k + 1 < CK) fragment(k + 1, fa[(k + 1) & 1], fb[(k + 1) & 1]);
UNROLL
        for (int i = 0; i < 4; ++i)
UNROLL
          for (int j = 0; j < 8; ++j) d[e][i][j] += fa[k & 1][i] * fb[k & 1][j];
      }
    }
    if (step + 1 < to) { copy_wait<0>(); put(other); }
  }
  __syncthreads();
UNROLL
  for (int e = 0; e < 3; ++e)
UNROLL
    for (int i = 0; i < 4; ++i)
UNROLL
      for (int j = 0; j < 8; j += 4) *(float4*)(sh + ((warp * 3 + e) * 32 + lo + i) * SP + j * 4 + lt) = make_float4(d[e][i][j], d[e][i][j + 1], d[e][i][j + 2], d[e][i][j + 3]);
  __syncthreads();
  float* out = p.y + (long long)blockIdx.z * p.n * p.o * hw; if (!live) return;
  hide(q); row = q / p.tw; tx = q - row * p.tw; image = row / p.th; y0 = (row - image * p.th) * 4 - 1;   // again: they need not live through the loop
#pragma unroll 1
  for (int o = warp; o < 32; o += 12) {
    float e[6][4]; float* y = out + ((long long)image * p.o + o0 + o) * hw + (y0 + 1) * p.w + tx * 4;
UNROLL
    for (int i = 0; i < 6; ++i) { float a[6];
UNROLL
      for (int j = 0; j < 6; ++j) a[j] = sh[((i * 6 + j) * 32 + o) * SP + lane];
      output_vector<4>(a, e[i]); }
    float f[4][4];
UNROLL
    for (int j = 0; j < 4; ++j) { float a[6] = {e[0][j], e[1][j], e[2][j], e[3][j], e[4][j], e[5][j]}, b[4]; output_vector<4>(a, b); f[0][j] = b[0]; f[1][j] = b[1]; f[2][j] = b[2]; f[3][j] = b[3]; }
UNROLL
    for (int i = 0; i < 4; ++i) store4(y + i * p.w, f[i][0], f[i][1], f[i][2], f[i][3]);
  }
}
extern "C" int fused4_run(const float* x, const float* u, float* part, float* y, int n, int c, int h, int w, int o, int splits, cudaStream_t st) {
  int th = h / 4, tw = w / 4, t = n * th * tw, count = n * o * h * w;
  int bad = launch(fused4, dim3((t + 31) / 32, o / 32, splits), dim3(384), (4 * 36 * 8 * 32 + 8 * 6 * 32 * 4 + 96) * 4, st, Wino{x, u, nullptr, nullptr, splits > 1 ? part : y, n, c, h, w, o, th, tw, t, t, splits});
  if (!bad && splits > 1) bad = launch(add_splits, dim3((count + 255) / 256), dim3(256), 0, st, (const float*)part, y, count, splits);
  return bad;
}
