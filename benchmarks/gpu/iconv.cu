// int8 3x3 convolution, padding 1, as an implicit product on mma.sync m16n8k32 s8: x [n][h][w][c] int8, w [o][9][c] int8 (c a power of two from 16 on, o of 16).
// y = round(relu(sum * scale[o] + bias[o])) as int8 NHWC, or the same as float without rounding; k may be split (int32 parts, added up by requantize).
// Rows of 128 bytes in shared memory, chunk ^ row % 8. Filters are permuted within a warp's tile so that a lane stores neighbours.
#include "common.h"
#ifndef CUEMU
__device__ __forceinline__ void ldmatrix4(unsigned* r, smem_t s) { asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory"); }
__device__ __forceinline__ void imma(int* d, const unsigned* a, const unsigned* b) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); }
__device__ __forceinline__ int to_int8(float v) { int r; asm("cvt.rni.sat.s8.f32 %0,%1;" : "=r"(r) : "f"(v)); return r & 255; }
#else
inline void ldmatrix4(unsigned* r, smem_t s) { for (int i = 0; i < 4; ++i) { smem_t q = cuemu::exchange(s, 8 * i + cuemu::lane() / 4); memcpy(&r[i], q + 4 * (cuemu::lane() % 4), 4); } }
inline void imma(int* d, const unsigned* a, const unsigned* b) {
  using namespace cuemu; int me = current, w = warp() * 32, g = lane() >> 2, t = lane() & 3;
  for (int i = 0; i < 4; ++i) slot[me][i] = a[i]; for (int i = 0; i < 2; ++i) slot[me][4 + i] = b[i];
  warp_barrier();
  for (int c = 0; c < 4; ++c) { int row = g + 8 * (c >> 1), col = 2 * t + (c & 1);
    for (int q = 0; q < 4; ++q) for (int h = 0; h < 2; ++h) { unsigned x = slot[w + (row & 7) * 4 + q][(row >> 3) + 2 * h], y = slot[w + col * 4 + q][4 + h];
      for (int k = 0; k < 4; ++k) d[c] += (int)(signed char)(x >> 8 * k) * (int)(signed char)(y >> 8 * k); } }
  warp_barrier();
}
inline int to_int8(float v) { return (int)fmaxf(-128.f, fminf(127.f, rintf(v))) & 255; }
#endif
struct IConv { const signed char *x, *w; const float *scale, *bias; void* y; int* part; int n, h, wd, c, lg, o, oh, ow, stride, splits; };
enum { INT8, FLOAT, PART };
template <int BM, int BN, int WM, int WN, int STAGES, int BLOCKS, int OUT> __global__ void __launch_bounds__(BM / WM * (BN / WN) * 32, BLOCKS) iconv(IConv p) {
  constexpr int THREADS = BM / WM * (BN / WN) * 32, FM = WM / 16, FN = WN / 8, STAGE = (BM + BN) * 128, ROWS = BM * 8 / THREADS, COLS = BN * 8 / THREADS, NEAR = 2 * FN;
  static_assert(BM * 8 % THREADS == 0 && BN * 8 % THREADS == 0 && FN % 2 == 0, "");
  DYNAMIC_SHARED(shared); smem_t base = smem_of(shared);
  int t = threadIdx.x, warp = t / 32, lane = t % 32, wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, m = p.n * p.oh * p.ow, kb = 9 << p.lg, steps = (kb + 127) / 128;
  int from = (int)((long long)steps * blockIdx.z / p.splits), to = (int)((long long)steps * (blockIdx.z + 1) / p.splits), c = t % 8;
  int iy[ROWS], ix[ROWS], at[ROWS], filter[COLS];
UNROLL
  for (int i = 0; i < ROWS; ++i) { int r = m0 + (i * THREADS + t) / 8, q = r / p.ow, b = q / p.oh; iy[i] = r < m ? (q - b * p.oh) * p.stride - 1 : -100; ix[i] = (r - q * p.ow) * p.stride - 1; at[i] = ((b * p.h + iy[i]) * p.wd + ix[i]) << p.lg; }
UNROLL
  for (int i = 0; i < COLS; ++i) { int r = (i * THREADS + t) / 8, in = r % WN; filter[i] = n0 + r - in + in % 8 / 2 * NEAR + in / 8 * 2 + in % 2; }
  auto load = [&](int step, int stage) {
    if (step < to) {
      smem_t s = base + stage * STAGE; int k = step * 128 + c * 16, tap = k >> p.lg, dy = tap / 3, dx = tap - dy * 3, shift = ((dy * p.wd + dx) << p.lg) + (k & ((1 << p.lg) - 1));
UNROLL
      for (int i = 0; i < ROWS; ++i) {
        int r = (i * THREADS + t) / 8; bool in = tap < 9 && (unsigned)(iy[i] + dy) < (unsigned)p.h && (unsigned)(ix[i] + dx) < (unsigned)p.wd;
        copy16(s + r * 128 + ((c ^ (r & 7)) << 4), in ? p.x + at[i] + shift : p.x, in);
      }
UNROLL
      for (int i = 0; i < COLS; ++i) { int r = (i * THREADS + t) / 8; bool in = filter[i] < p.o && k < kb; copy16(s + BM * 128 + r * 128 + ((c ^ (r & 7)) << 4), in ? p.w + (long long)filter[i] * kb + k : p.w, in); }
    }
    copy_commit();
  };
  int d[FM][FN][4];
UNROLL
  for (int i = 0; i < FM; ++i)
UNROLL
    for (int j = 0; j < FN; ++j)
UNROLL
      for (int q = 0; q < 4; ++q) d[i][j][q] = 0;
UNROLL
  for (int s = 0; s < STAGES - 1; ++s) load(from + s, s);
  int arow = (wm + (lane & 15)) * 128, ax = (((lane >> 4) ^ (lane & 7)) << 4), brow = BM * 128 + (wn + (lane >> 4) * 8 + (lane & 7)) * 128, bx = ((((lane >> 3) & 1) ^ (lane & 7)) << 4), out = 0, in = STAGES - 1;
#pragma unroll 1
  for (int step = from; step < to; ++step) {
    copy_wait<STAGES - 2>(); __syncthreads(); load(step + STAGES - 1, in); smem_t s = base + out * STAGE; in = in + 1 == STAGES ? 0 : in + 1; out = out + 1 == STAGES ? 0 : out + 1;
UNROLL
    for (int k = 0; k < 4; ++k) {
      unsigned a[FM][4], b[FN / 2][4];
UNROLL
      for (int i = 0; i < FM; ++i) ldmatrix4(a[i], s + arow + i * 2048 + (ax ^ (k << 5)));
UNROLL
      for (int j = 0; j < FN / 2; ++j) ldmatrix4(b[j], s + brow + j * 2048 + (bx ^ (k << 5)));
UNROLL
      for (int i = 0; i < FM; ++i)
UNROLL
        for (int j = 0; j < FN; ++j) imma(d[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }
  }
  copy_wait<0>();
  int col = n0 + wn + lane % 4 * NEAR; if (col >= p.o) return;              // o a multiple of 16, NEAR of 4
UNROLL
  for (int i = 0; i < FM; ++i)
UNROLL
    for (int h = 0; h < 2; ++h) {
      int row = m0 + wm + i * 16 + h * 8 + lane / 4; if (row >= m) continue;
UNROLL
      for (int q = 0; q < NEAR; q += 4) {
        if (col + q >= p.o) continue; int v[4] = {d[i][q / 2][2 * h], d[i][q / 2][2 * h + 1], d[i][q / 2 + 1][2 * h], d[i][q / 2 + 1][2 * h + 1]}; long long g = (long long)row * p.o + col + q;
        if (OUT == PART) { store4(p.part + (long long)blockIdx.z * m * p.o + g, v[0], v[1], v[2], v[3]); continue; }
        float4 s = __ldg((const float4*)(p.scale + col + q)), b = __ldg((const float4*)(p.bias + col + q));
        float4 f = make_float4(fmaxf(v[0] * s.x + b.x, 0.f), fmaxf(v[1] * s.y + b.y, 0.f), fmaxf(v[2] * s.z + b.z, 0.f), fmaxf(v[3] * s.w + b.w, 0.f));
        if (OUT == FLOAT) store4((float*)p.y + g, f.x, f.y, f.z, f.w); else *(int*)((signed char*)p.y + g) = to_int8(f.x) | to_int8(f.y) << 8 | to_int8(f.z) << 16 | to_int8(f.w) << 24;
      }
    }
}
template <bool ROUND> __global__ void requantize(IConv p, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= count) return; int4 v = ((const int4*)p.part)[i];
  for (int k = 1; k < p.splits; ++k) { int4 u = ((const int4*)p.part)[(long long)k * count + i]; v.x += u.x; v.y += u.y; v.z += u.z; v.w += u.w; }
  int col = i % (p.o / 4) * 4; float4 s = __ldg((const float4*)(p.scale + col)), b = __ldg((const float4*)(p.bias + col));
  float4 f = make_float4(fmaxf(v.x * s.x + b.x, 0.f), fmaxf(v.y * s.y + b.y, 0.f), fmaxf(v.z * s.z + b.z, 0.f), fmaxf(v.w * s.w + b.w, 0.f));
  if (!ROUND) ((float4*)p.y)[i] = f; else ((int*)p.y)[i] = to_int8(f.x) | to_int8(f.y) << 8 | to_int8(f.z) << 16 | to_int8(f.w) << 24;
}
#define I(BM, BN, WM, WN, S, BL) {"iconv " #BM "x" #BN " warp " #WM "x" #WN " stages " #S " blocks " #BL, {iconv<BM, BN, WM, WN, S, BL, INT8>, iconv<BM, BN, WM, WN, S, BL, FLOAT>, iconv<BM, BN, WM, WN, S, BL, PART>}, BM, BN, BM / WM * (BN / WN) * 32, S * (BM + BN) * 128}
static const struct { const char* name; void (*kernel[3])(IConv); int bm, bn, threads, shared; } configs[] = {I(128, 64, 32, 32, 3, 2), I(128, 64, 64, 32, 3, 3), I(64, 64, 32, 32, 3, 4), I(64, 64, 32, 16, 3, 3), I(128, 128, 64, 32, 3, 2), I(128, 128, 64, 64, 3, 2), I(32, 64, 32, 16, 4, 4), I(256, 64, 64, 32, 3, 1)};
extern "C" int iconv_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* iconv_name(int i) { return configs[i].name; }
extern "C" int iconv_run(int i, int floats, const void* x, const void* w, const float* scale, const float* bias, int* part, void* y, int n, int h, int wd, int c, int o, int stride, int splits, cudaStream_t st) {
  auto& f = configs[i]; int oh = (h - 1) / stride + 1, ow = (wd - 1) / stride + 1, m = n * oh * ow, lg = 0, count = m * o / 4; while (1 << lg < c) ++lg;
  IConv p{(const signed char*)x, (const signed char*)w, scale, bias, y, part, n, h, wd, c, lg, o, oh, ow, stride, splits};
  int bad = launch(f.kernel[splits > 1 ? PART : floats ? FLOAT : INT8], dim3((m + f.bm - 1) / f.bm, (o + f.bn - 1) / f.bn, splits), dim3(f.threads), f.shared, st, p);
  if (!bad && splits > 1) bad = floats ? launch(requantize<false>, dim3((count + 255) / 256), dim3(256), 0, st, p, count) : launch(requantize<true>, dim3((count + 255) / 256), dim3(256), 0, st, p, count);
  return bad;
}
