// Lookup convolution (LCNN), FP32, NCHW: S[n][k][h][w] = D x, then y[n][o] = sum of coefficient * S[channel] shifted, one list per filter.
// A tile holds all (or kb at a time) channels of S of some output rows with their halo in shared memory; a lane is a pixel, a warp some filters.
// Images stand above one another, voh rows of outputs each, so that a tile may span images; with stride 1 neighbours share their zero padding.
// A row of the tile: stride phases of pp columns. A list: pairs (byte offset in the tile, coefficient), two to an int4.
#include "gemm.h"
struct Look {
  const float *s, *x, *dt; const int4* list; const int* begin; float* y;    // s (two kernels) or x [n][c][h][w] and dt [c][kp] (one kernel)
  int n, k, h, w, o, oh, ow, kh, stride, pad, pp, lp, voh, plane, rows, chunks, kb, tr, wp, c, kp, opad;
};
template <int P, int OPW, bool FLAT, int KT, int PT, int THREADS, int BLOCKS> __global__ void __launch_bounds__(THREADS, BLOCKS) lookup(Look p) {
  DYNAMIC_SHARED(tile);
  int t = threadIdx.x, lane = t % 32, warp = t / 32, wp = warp % p.wp, wo = warp / p.wp, v0 = blockIdx.x * p.tr, o0 = (blockIdx.y * (THREADS / 32 / p.wp) + wo) * OPW;
  int vih = p.voh * p.stride, hw = p.h * p.w, row = p.stride * p.pp;
  auto source = [&](int f, long long per_image) -> long long {               // where position f of a plane comes from, or -1
    int u = f / row, rest = f - u * row, phase = rest / p.pp, x = (rest - phase * p.pp) * p.stride + phase - p.pad, g = v0 * p.stride + u, image = g / vih, y = g - image * vih - p.pad;
    return u < p.rows && image < p.n && (unsigned)y < (unsigned)p.h && (unsigned)x < (unsigned)p.w ? image * per_image + y * p.w + x : -1;
  };
  const char* base[FLAT ? 1 : P];
UNROLL
  for (int i = 0; i < (FLAT ? 1 : P); ++i) { int f = (wp * P + i) * 32 + lane; base[i] = (const char*)(tile + (FLAT ? f : f / p.lp * p.stride * row + f % p.lp)); }
  float d[OPW][P];
UNROLL
  for (int o = 0; o < OPW; ++o)
UNROLL
    for (int i = 0; i < P; ++i) d[o][i] = 0.f;
#pragma unroll 1
  for (int chunk = 0; chunk < (KT ? 1 : p.chunks); ++chunk) {                // the one kernel holds the whole dictionary
    int k0 = chunk * p.kb, ks = min(p.kb, p.k - k0);
    if (chunk) __syncthreads();
    if (KT == 0) {
      for (int f = t; f < p.plane; f += THREADS) {
        long long at = source(f, (long long)p.k * hw); const float* g = at < 0 ? p.s : p.s + at + (long long)k0 * hw; smem_t to = smem_of(tile + f); int step = at < 0 ? 0 : hw;
#pragma unroll 4
        for (int k = 0; k < ks; ++k) { copy4(to, g, at >= 0); to += p.plane * 4; g += step; }
      }
      copy_commit(); copy_wait<0>();
    } else {                                                                // the dictionary product, straight into the tile
      constexpr int Q = KT ? KT : 1, R = KT ? PT : 1; int groups = (p.plane + 32 * R - 1) / (32 * R), units = groups * ((ks + Q - 1) / Q);
#pragma unroll 1
      for (int unit = warp; unit < units; unit += THREADS / 32) {
        int kg = unit / groups, f0 = (unit - kg * groups) * 32 * R + lane; int g[R]; float s[Q][R];
UNROLL
        for (int j = 0; j < R; ++j) g[j] = f0 + j * 32 < p.plane ? (int)source(f0 + j * 32, (long long)p.c * hw) : -1;
UNROLL
        for (int q = 0; q < Q; ++q)
UNROLL
          for (int j = 0; j < R; ++j) s[q][j] = 0.f;
        const float4* dt = (const float4*)(p.dt + k0 + kg * Q);
#pragma unroll 4
        for (int c = 0; c < p.c; ++c) {
          float v[R]; float4 w[(Q + 3) / 4];
UNROLL
          for (int j = 0; j < R; ++j) { v[j] = 0.f; if (g[j] >= 0) v[j] = __ldg(p.x + g[j] + c * hw); }
UNROLL
          for (int q = 0; q < (Q + 3) / 4; ++q) w[q] = __ldg(dt + c * (p.kp / 4) + q);
UNROLL
          for (int q = 0; q < Q; ++q)
UNROLL
            for (int j = 0; j < R; ++j) s[q][j] += (q % 4 == 0 ? w[q / 4].x : q % 4 == 1 ? w[q / 4].y : q % 4 == 2 ? w[q / 4].z : w[q / 4].w) * v[j];
        }
UNROLL
        for (int q = 0; q < Q; ++q)
UNROLL
          for (int j = 0; j < R; ++j) if (kg * Q + q < ks && f0 + j * 32 < p.plane) tile[(kg * Q + q) * p.plane + f0 + j * 32] = s[q][j];
      }
    }
    __syncthreads();
UNROLL
    for (int o = 0; o < OPW; ++o) {
      const int* at = p.begin + chunk * p.opad + o0 + o; int i = __ldg(at), end = __ldg(at + 1); int4 v = __ldg(p.list + i);
#pragma unroll 2
      for (; i < end; ++i) {
        int4 next = __ldg(p.list + i + 1); float w0 = __int_as_float(v.y), w1 = __int_as_float(v.w);
        if (FLAT) {
          const float *a0 = (const float*)(base[0] + v.x), *a1 = (const float*)(base[0] + v.z);
UNROLL
          for (int j = 0; j < P; ++j) d[o][j] += w0 * a0[j * 32];
UNROLL
          for (int j = 0; j < P; ++j) d[o][j] += w1 * a1[j * 32];
        } else {
UNROLL
          for (int j = 0; j < P; ++j) { d[o][j] += w0 * *(const float*)(base[FLAT ? 0 : j] + v.x); d[o][j] += w1 * *(const float*)(base[FLAT ? 0 : j] + v.z); }
        }
        v = next;
      }
    }
  }
UNROLL
  for (int i = 0; i < P; ++i) {
    int f = (wp * P + i) * 32 + lane, r = f / p.lp, x = f - r * p.lp, g = v0 + r, image = g / p.voh, y = g - image * p.voh;
    if (r >= p.tr || image >= p.n || y >= p.oh || x >= p.ow) continue;
    float* to = p.y + ((long long)image * p.o + o0) * p.oh * p.ow + y * p.ow + x;
UNROLL
    for (int o = 0; o < OPW; ++o) if (o0 + o < p.o) to[(long long)o * p.oh * p.ow] = d[o][i];
  }
}
#define ENTRY(P, OPW, KT, PT, T, BL) {"P" #P " outputs/warp " #OPW " threads " #T " blocks " #BL " fused " #KT "x" #PT, lookup<P, OPW, true, KT, PT, T, BL>, lookup<P, OPW, false, KT, PT, T, BL>, P, OPW, T, KT}
static const struct { const char* name; void (*flat)(Look); void (*strided)(Look); int p, opw, threads, kt; } lookups[] = {
  ENTRY(8, 8, 0, 0, 256, 2), ENTRY(8, 4, 0, 0, 256, 3), ENTRY(4, 8, 0, 0, 256, 3), ENTRY(4, 4, 0, 0, 256, 4), ENTRY(4, 2, 0, 0, 256, 4), ENTRY(2, 4, 0, 0, 256, 6), ENTRY(2, 2, 0, 0, 128, 8), ENTRY(1, 4, 0, 0, 128, 8), ENTRY(8, 8, 0, 0, 512, 1), ENTRY(8, 4, 0, 0, 512, 2), ENTRY(4, 8, 0, 0, 512, 2),
  ENTRY(8, 8, 8, 4, 512, 1), ENTRY(8, 4, 8, 4, 256, 2), ENTRY(8, 4, 16, 2, 512, 1), ENTRY(4, 8, 8, 4, 512, 1), ENTRY(4, 4, 8, 2, 256, 3), ENTRY(2, 4, 8, 2, 256, 3), ENTRY(1, 4, 8, 1, 128, 6)};
extern "C" int lookup_count() { return sizeof(lookups) / sizeof(lookups[0]); }
extern "C" const char* lookup_name(int i) { return lookups[i].name; }
extern "C" void lookup_shape(int i, int* out) { auto& f = lookups[i]; out[0] = f.p; out[1] = f.opw; out[2] = f.threads; out[3] = f.kt; }
extern "C" int lookup_run(int i, const Look* p, int bytes, cudaStream_t st) {
  auto& f = lookups[i]; int per = f.threads / 32 / p->wp * f.opw;
  return launch(p->stride == 1 ? f.flat : f.strided, dim3((p->n * p->voh + p->tr - 1) / p->tr, (p->o + per - 1) / per), dim3(f.threads), bytes, st, *p);
}
// The dictionary product: dt [c][kp], x [n][c][hw] -> s [n][k][hw]
typedef int (*Product)(const Gemm&, int, cudaStream_t);
#define PRODUCT(BM, BN, TM, TN, BK, S, BL) {"dictionary " #BM "x" #BN " thread " #TM "x" #TN " k " #BK " stages " #S " blocks " #BL, gemm_launch<BM, BN, TM, TN, BK, S, 0, 4, BL>, gemm_launch<BM, BN, TM, TN, BK, S, 0, 1, BL>}
static const struct { const char* name; Product aligned, any; } products[] = {PRODUCT(64, 128, 8, 8, 8, 4, 4), PRODUCT(32, 128, 4, 8, 8, 4, 4), PRODUCT(64, 64, 4, 8, 16, 3, 4), PRODUCT(32, 64, 4, 4, 16, 3, 4), PRODUCT(32, 32, 4, 4, 32, 3, 8), PRODUCT(128, 128, 8, 8, 8, 4, 2)};
extern "C" int product_count() { return sizeof(products) / sizeof(products[0]); }
extern "C" const char* product_name(int i) { return products[i].name; }
extern "C" int product_run(int i, const float* dt, const float* x, float* s, int n, int c, int k, int kp, int hw, cudaStream_t st) {
  Gemm p{dt, x, nullptr, s, k, n * hw, c, kp, hw, hw, hw, (long long)c * hw, (long long)k * hw, 0, 0, 0, 0, 1, 0};
  return hw % 4 == 0 ? products[i].aligned(p, 1, st) : products[i].any(p, 1, st);
}
