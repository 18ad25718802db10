// Depthwise 3x3, padding 1, FP32, NHWC; 4 channels and TX x TY outputs per thread, weights in registers; with bias + ReLU or without.
// Then the pointwise product (rows of pixels by c, FFMA, split k) with bias + ReLU.
#include "gemm.h"
struct Depth { const float *x, *w, *bias; float* y; int n, h, wd, c, oh, ow, yt, xt, count; };
__device__ __forceinline__ void mad(float4& s, float4 a, float4 b) { s.x += a.x * b.x; s.y += a.y * b.y; s.z += a.z * b.z; s.w += a.w * b.w; }
template <int TX, int TY, int S, bool BIAS> __global__ void __launch_bounds__(128) depthwise(Depth p) {
  int id = blockIdx.x * 128 + threadIdx.x, c4 = p.c / 4; if (id >= p.count) return;
  int q = id / c4, c = (id - q * c4) * 4, r = q / p.xt, x0 = (q - r * p.xt) * TX, image = r / p.yt, y0 = (r - image * p.yt) * TY;
  float4 w[9], d[TY][TX], bias = make_float4(0.f, 0.f, 0.f, 0.f); if (BIAS) bias = __ldg((const float4*)(p.bias + c));
UNROLL
  for (int k = 0; k < 9; ++k) w[k] = __ldg((const float4*)(p.w + k * p.c + c));
UNROLL
  for (int i = 0; i < TY; ++i)
UNROLL
    for (int j = 0; j < TX; ++j) d[i][j] = bias;
  constexpr int RX = (TX - 1) * S + 3, RY = (TY - 1) * S + 3; const float* g = p.x + (((long long)image * p.h + y0 * S - 1) * p.wd + x0 * S - 1) * p.c + c;
UNROLL
  for (int i = 0; i < RY; ++i) {
    float4 v[RX]; bool in = (unsigned)(y0 * S - 1 + i) < (unsigned)p.h;
UNROLL
    for (int j = 0; j < RX; ++j) { v[j] = make_float4(0.f, 0.f, 0.f, 0.f); if (in && (unsigned)(x0 * S - 1 + j) < (unsigned)p.wd) v[j] = __ldg((const float4*)(g + (long long)(i * p.wd + j) * p.c)); }
UNROLL
    for (int y = 0; y < TY; ++y) {
      if (i < y * S || i >= y * S + 3) continue;
UNROLL
      for (int x = 0; x < TX; ++x)
UNROLL
        for (int k = 0; k < 3; ++k) mad(d[y][x], v[x * S + k], w[(i - y * S) * 3 + k]);
    }
  }
UNROLL
  for (int i = 0; i < TY; ++i)
UNROLL
    for (int j = 0; j < TX; ++j) {
      if (y0 + i >= p.oh || x0 + j >= p.ow) continue; float4 v = d[i][j]; if (BIAS) v = make_float4(fmaxf(v.x, 0.f), fmaxf(v.y, 0.f), fmaxf(v.z, 0.f), fmaxf(v.w, 0.f));
      store4(p.y + (((long long)image * p.oh + y0 + i) * p.ow + x0 + j) * p.c + c, v.x, v.y, v.z, v.w);
    }
}
#define D(TX, TY) {"depthwise " #TX "x" #TY, {{depthwise<TX, TY, 1, false>, depthwise<TX, TY, 2, false>}, {depthwise<TX, TY, 1, true>, depthwise<TX, TY, 2, true>}}, TX, TY}
static const struct { const char* name; void (*kernel[2][2])(Depth); int tx, ty; } depthwises[] = {D(1, 1), D(2, 1), D(4, 1), D(1, 2), D(2, 2), D(4, 2), D(2, 4), D(1, 4), D(7, 1), D(4, 4)};
extern "C" int depth_count() { return sizeof(depthwises) / sizeof(depthwises[0]); }
extern "C" const char* depth_name(int i) { return depthwises[i].name; }
extern "C" int depth_run(int i, const float* x, const float* w, const float* bias, float* y, int n, int h, int wd, int c, int stride, cudaStream_t st) {
  auto& f = depthwises[i]; int oh = (h - 1) / stride + 1, ow = (wd - 1) / stride + 1, yt = (oh + f.ty - 1) / f.ty, xt = (ow + f.tx - 1) / f.tx, count = n * yt * xt * (c / 4);
  return launch(f.kernel[bias != nullptr][stride - 1], dim3((count + 127) / 128), dim3(128), 0, st, Depth{x, w, bias, y, n, h, wd, c, oh, ow, yt, xt, count});
}
__global__ void add_bias_relu(const float4* part, const float4* bias, float4* y, int count, int o4, int splits) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= count) return; float4 s = bias[i % o4];
  for (int k = 0; k < splits; ++k) { float4 v = part[(long long)k * count + i]; s.x += v.x; s.y += v.y; s.z += v.z; s.w += v.w; }
  store4((float*)(y + i), fmaxf(s.x, 0.f), fmaxf(s.y, 0.f), fmaxf(s.z, 0.f), fmaxf(s.w, 0.f));
}
typedef int (*Product)(const Gemm&, int, cudaStream_t);
#define PRODUCT(BM, BN, TM, TN, BK, S, BL) {"pointwise " #BM "x" #BN " thread " #TM "x" #TN " k " #BK " stages " #S " blocks " #BL, gemm_launch<BM, BN, TM, TN, BK, S, 1, 4, BL>}
static const struct { const char* name; Product run; } products[] = {PRODUCT(128, 128, 8, 8, 8, 4, 2), PRODUCT(128, 128, 8, 8, 16, 3, 2), PRODUCT(64, 128, 8, 8, 16, 3, 4), PRODUCT(128, 64, 8, 8, 16, 3, 3), PRODUCT(64, 64, 8, 8, 16, 3, 6), PRODUCT(64, 64, 4, 8, 16, 4, 4), PRODUCT(32, 64, 4, 4, 16, 4, 4), PRODUCT(64, 64, 8, 4, 32, 3, 3)};
extern "C" int point_count() { return sizeof(products) / sizeof(products[0]); }
extern "C" const char* point_name(int i) { return products[i].name; }
extern "C" int point_run(int i, const float* x, const float* w, const float* bias, float* part, float* y, int m, int c, int o, int splits, cudaStream_t st) {
  Gemm p{x, w, splits > 1 ? nullptr : bias, splits > 1 ? part : y, m, o, c, c, o, o, o, 0, 0, 0, 0, 0, (long long)m * o, splits, splits == 1};
  int bad = products[i].run(p, 1, st), count = m * o / 4;
  if (!bad && splits > 1) bad = launch(add_bias_relu, dim3((count + 255) / 256), dim3(256), 0, st, (const float4*)part, (const float4*)bias, (float4*)y, count, o / 4, splits);
  return bad;
}
