// Prototype of a binary 3x3 convolution (pad 1) as an implicit product on mma.sync b1: input bits NHWC [n][h][w][c/32], weights [o][9][c/32],
// out NHWC float. Zero padding as in PyTorch: taps outside the image count nothing (and.popc of zero bits) and the bias depends on which border the pixel touches.
// out = K_valid - 2 popc(x) - 2 popc_valid(w) + 4 popc(x & w); popc(x) summed from one count per pixel, table[9][o] = K_valid - 2 popc_valid(w).
#define XNOR_KERNELS_ONLY
#include "xnor.cu"
#ifndef CUEMU
__device__ __forceinline__ void copy8(smem_t s, const void* g, bool in) { asm volatile("cp.async.ca.shared.global [%0],[%1],8,%2;" :: "r"(s), "l"(g), "r"(in ? 8 : 0)); }
#else
inline void copy8(smem_t s, const void* g, bool in) { if (in) memcpy(s, g, 8); else memset(s, 0, 8); }
#endif
struct Conv { const unsigned char* x; const int* count; const unsigned char* w; const int* table; float* y; int n, h, wd, o, oh, ow, stride; };

// CB: bytes of one pixel's channels (8, 16, 32, 64)
template <int CB, int BM, int BN, int WM, int WN, int STAGES, int BLOCKS> __global__ void __launch_bounds__(BM / WM * (BN / WN) * 32, BLOCKS) bconv(Conv p) {
  constexpr int THREADS = BM / WM * (BN / WN) * 32, FM = WM / 16, FN = WN / 8, STAGE = (BM + BN) * 128, KB = 9 * CB, STEPS = (KB + 127) / 128, ROWS = BM * 8 / THREADS;
  DYNAMIC_SHARED(shared); smem_t base = smem_of(shared);
  __shared__ int left[BM], border[BM];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, m = p.n * p.oh * p.ow;
  int iy[ROWS], ix[ROWS], at[ROWS];                                         // this thread's pixels: top left tap and its offset
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    int r = m0 + (i * THREADS + (int)threadIdx.x) / 8, q = r / p.ow, b = q / p.oh; iy[i] = r < m ? (q - b * p.oh) * p.stride - 1 : -100; ix[i] = (r - q * p.ow) * p.stride - 1; at[i] = (b * p.h + iy[i]) * p.wd + ix[i];
  }
  auto load = [&](smem_t s, int step) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      int r = (i * THREADS + (int)threadIdx.x) / 8, c = threadIdx.x % 8; smem_t to = s + r * 128 + ((c ^ (r & 7)) << 4);
#pragma unroll
      for (int half = 0; half < (CB == 8 ? 2 : 1); ++half) {
        int k = step * 128 + c * 16 + half * 8, tap = k / CB, dy = tap / 3, dx = tap - dy * 3;
        bool in = tap < 9 && (unsigned)(iy[i] + dy) < (unsigned)p.h && (unsigned)(ix[i] + dx) < (unsigned)p.wd;
        const unsigned char* g = in ? p.x + (size_t)(at[i] + dy * p.wd + dx) * CB + k % CB : p.x;
        if (CB == 8) copy8(to + half * 8, g, in); else copy16(to, g, in);
      }
    }
#pragma unroll
    for (int i = 0; i < BN * 8 / THREADS; ++i) {
      int id = i * THREADS + (int)threadIdx.x, r = id / 8, c = id % 8; smem_t to = s + BM * 128 + r * 128 + ((c ^ (r & 7)) << 4);
      int k = step * 128 + c * 16; const unsigned char* g = p.w + (size_t)(n0 + r) * KB + k;
      if (CB == 8) for (int half = 0; half < 2; ++half) { bool in = n0 + r < p.o && k + half * 8 < KB; copy8(to + half * 8, in ? g + half * 8 : p.w, in); }   // rows of 72 bytes: 8-byte aligned
      else { bool in = n0 + r < p.o && k < KB; copy16(to, in ? g : p.w, in); }
    }
  };
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) { if (s < STEPS) load(base + s * STAGE, s); copy_commit(); }
  for (int r = threadIdx.x; r < BM; r += THREADS) {                         // set bits under the window and the border class, once per pixel
    int row = m0 + r, sum = 0, cls = 4;
    if (row < m) {
      int q = row / p.ow, b = q / p.oh, y = (q - b * p.oh) * p.stride - 1, x = (row - q * p.ow) * p.stride - 1; cls = (y < 0 ? 0 : y + 2 >= p.h ? 6 : 3) + (x < 0 ? 0 : x + 2 >= p.wd ? 2 : 1);
      for (int dy = 0; dy < 3; ++dy) for (int dx = 0; dx < 3; ++dx) if ((unsigned)(y + dy) < (unsigned)p.h && (unsigned)(x + dx) < (unsigned)p.wd) sum += p.count[(b * p.h + y + dy) * p.wd + x + dx];
    }
    left[r] = 2 * sum; border[r] = cls * p.o;
  }
  int d[FM][FN][4];
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int j = 0; j < FN; ++j)
#pragma unroll
      for (int q = 0; q < 4; ++q) d[i][j][q] = 0;
  int arow = (wm + (lane & 15)) * 128, ax = (((lane >> 4) ^ (lane & 7)) << 4), brow = BM * 128 + (wn + (lane >> 4) * 8 + (lane & 7)) * 128, bx = ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    copy_wait<STAGES - 2>(); __syncthreads();
    if (step + STAGES - 1 < STEPS) load(base + (step + STAGES - 1) % STAGES * STAGE, step + STAGES - 1);
    copy_commit(); smem_t s = base + step % STAGES * STAGE;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (step * 4 + k >= (KB + 31) / 32) break;
      unsigned a[FM][4], b[FN / 2][4];
#pragma unroll
      for (int i = 0; i < FM; ++i) ldmatrix4(a[i], s + arow + i * 2048 + (ax ^ (k << 5)));
#pragma unroll
      for (int j = 0; j < FN / 2; ++j) ldmatrix4(b[j], s + brow + j * 2048 + (bx ^ (k << 5)));
#pragma unroll
      for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j) bmma_and(d[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }
  }
#pragma unroll
  for (int i = 0; i < FM; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int r = wm + i * 16 + h * 8 + lane / 4, row = m0 + r; if (row >= m) continue;
      int l = left[r]; const int* t = p.table + border[r];
#pragma unroll
      for (int j = 0; j < FN; ++j) {
        int col = n0 + wn + j * 8 + lane % 4 * 2; if (col >= p.o) continue; // o even
        store2(p.y + (size_t)row * p.o + col, (float)(t[col] - l + 4 * d[i][j][2 * h]), (float)(t[col + 1] - l + 4 * d[i][j][2 * h + 1]));
      }
    }
}

// NCHW float -> NHWC sign bits (bit i of word w = channel 32 w + i) and set bits per pixel; block = 32 pixels x c/32 words
__global__ void pack_nchw(const float* __restrict__ x, unsigned* __restrict__ y, int* __restrict__ count, int c, int pixels) {
  __shared__ int sum[32]; int px = blockIdx.x * 32 + threadIdx.x, b = blockIdx.y, w = threadIdx.y; if (w == 0) sum[threadIdx.x] = 0; __syncthreads();
  unsigned bits = 0;
  if (px < pixels) {
    const float* p = x + ((size_t)b * c + w * 32) * pixels + px; float v[32];
#pragma unroll
    for (int i = 0; i < 32; ++i) v[i] = p[(size_t)i * pixels];
#pragma unroll
    for (int i = 0; i < 32; ++i) bits |= (v[i] >= 0.f ? 1u : 0u) << i;
    y[((size_t)b * pixels + px) * (c / 32) + w] = bits;
#ifdef CUEMU
    sum[threadIdx.x] += __popc(bits);
#else
    atomicAdd(&sum[threadIdx.x], __popc(bits));
#endif
  }
  __syncthreads(); if (w == 0 && px < pixels) count[(size_t)b * pixels + px] = sum[threadIdx.x];
}

#ifndef CUEMU
#define D(CB, BM, BN, WM, WN, S, BL) {"bconv " #BM "x" #BN " warp " #WM "x" #WN " stages " #S " blocks " #BL, bconv<CB, BM, BN, WM, WN, S, BL>, CB, BM, BN, BM / WM * (BN / WN) * 32, S * (BM + BN) * 128}
#define ALL(CB) D(CB, 64, 64, 32, 32, 3, 3), D(CB, 128, 64, 64, 32, 3, 2), D(CB, 128, 64, 32, 32, 2, 2), D(CB, 128, 128, 64, 64, 2, 2), D(CB, 64, 64, 32, 16, 3, 2), D(CB, 32, 64, 32, 16, 3, 3)
static const struct { const char* name; void (*kernel)(Conv); int cb, bm, bn, threads, shared; } configs[] = {ALL(8), ALL(16), ALL(32), ALL(64)};
extern "C" int bconv_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* bconv_name(int i) { return configs[i].name; }
extern "C" int bconv_bytes(int i) { return configs[i].cb; }
extern "C" int bconv_run(int i, const void* x, const int* count, const void* w, const int* table, float* y, int n, int h, int wd, int o, int stride, int times, cudaStream_t st) {
  auto& f = configs[i]; if (cudaError_t e = cudaFuncSetAttribute(f.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, f.shared)) return e;
  int oh = (h - 1) / stride + 1, ow = (wd - 1) / stride + 1; Conv c{(const unsigned char*)x, count, (const unsigned char*)w, table, y, n, h, wd, o, oh, ow, stride};
  for (int t = 0; t < times; ++t) f.kernel<<<dim3((n * oh * ow + f.bm - 1) / f.bm, (o + f.bn - 1) / f.bn), f.threads, f.shared, st>>>(c);
  return cudaGetLastError();
}
extern "C" int bconv_pack(const float* x, unsigned* y, int* count, int n, int c, int pixels, int times, cudaStream_t st) {
  for (int t = 0; t < times; ++t) pack_nchw<<<dim3((pixels + 31) / 32, n), dim3(32, c / 32), 0, st>>>(x, y, count, c, pixels);
  return cudaGetLastError();
}
#endif
