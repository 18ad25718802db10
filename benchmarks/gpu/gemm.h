// C[m][n] = sum over k of A * B[k][n] on FFMA. B has rows of k; A has rows of k (AROWS 0: A[k][m]) or rows of m (1: A[m][k], transposed on the way
// into shared memory). Columns may run over images of hw columns each (column q is image q / hw). blockIdx.z = product * splits + split of k.
#pragma once
#include "common.h"
struct Gemm {
  const float *a, *b, *bias; float* c; int m, n, k, lda, ldb, ldc, hw; long long bimg, cimg, za, zb, zc, zs; int splits, relu;   // z*: from product to product, zs: from split to split
};
// BV: floats per copy of B and per store of C (4 needs aligned rows and hw % 4 == 0). m a multiple of 4 with AROWS 0, k of 4 with AROWS 1.
template <int BM, int BN, int TM, int TN, int BK, int STAGES, int AROWS, int BV, int BLOCKS>
__global__ void __launch_bounds__(BM / TM * (BN / TN), BLOCKS) gemm(Gemm p) {
  constexpr int THREADS = BM / TM * (BN / TN), LX = BN / TN >= 8 ? 8 : BN / TN, LY = 32 / LX, STAGE = BK * (BM + BN);
  constexpr int AV = BK * BM / 4, AL = (AV + THREADS - 1) / THREADS, BCOLS = BN / BV, BE = BK * BCOLS, BL = (BE + THREADS - 1) / THREADS;
  static_assert(BM / TM % LY == 0 && THREADS % BCOLS == 0 && (BV == 4 || BV == 1) && TM % 4 == 0 && TN % 4 == 0 && BK % 4 == 0, "");
  DYNAMIC_SHARED(sh);
  int t = threadIdx.x, warp = t / 32, lane = t % 32, tx = warp % (BN / TN / LX) * LX + lane % LX, ty = warp / (BN / TN / LX) * LY + lane / LX;
  int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, z = blockIdx.z / p.splits, split = blockIdx.z - z * p.splits, steps = (p.k + BK - 1) / BK;
  int from = (int)((long long)steps * split / p.splits), to = (int)((long long)steps * (split + 1) / p.splits);
  const float* a = p.a + z * p.za; const float* b = p.b + z * p.zb;
  int q = n0 + t % BCOLS * BV, image = q / p.hw; bool inside = q < p.n; const float* column = inside ? b + image * p.bimg + (q - image * p.hw) : b;
  float4 ra[AROWS ? AL : 1];
  auto load_b = [&](int step, int stage) {
    if (step < to) {
      float* sb = sh + stage * STAGE + BK * BM;
UNROLL
      for (int i = 0; i < BL; ++i) {
        int id = i * THREADS + t, kr = id / BCOLS, k = step * BK + kr; bool in = inside && k < p.k; const float* g = in ? column + (long long)k * p.ldb : b;
        if (BE % THREADS == 0 || id < BE) { if (BV == 4) copy16(smem_of(sb + kr * BN + t % BCOLS * BV), g, in); else copy4(smem_of(sb + kr * BN + t % BCOLS), g, in); }
      }
      if (!AROWS) {
        float* sa = sh + stage * STAGE;
UNROLL
        for (int i = 0; i < AL; ++i) {
          int id = i * THREADS + t, kr = id / (BM / 4), mc = id % (BM / 4) * 4, k = step * BK + kr; bool in = k < p.k && m0 + mc < p.m;
          if (AV % THREADS == 0 || id < AV) copy16(smem_of(sa + kr * BM + mc), in ? a + (long long)k * p.lda + m0 + mc : a, in);
        }
      }
    }
    copy_commit();
  };
  auto fetch_a = [&](int step) {
    if (!AROWS || step >= to) return;
UNROLL
    for (int i = 0; i < AL; ++i) {
      int id = i * THREADS + t, row = m0 + id / (BK / 4), k = step * BK + id % (BK / 4) * 4; ra[AROWS ? i : 0] = make_float4(0.f, 0.f, 0.f, 0.f);
      if ((AV % THREADS == 0 || id < AV) && row < p.m && k < p.k) ra[AROWS ? i : 0] = *(const float4*)(a + (long long)row * p.lda + k);
    }
  };
  auto put_a = [&](int step, int stage) {                                   // column m of row k lies at m ^ (k / 4 % 4 * 8): no bank conflicts
    if (!AROWS || step >= to) return; float* sa = sh + stage * STAGE;
UNROLL
    for (int i = 0; i < AL; ++i) {
      int id = i * THREADS + t, g = id % (BK / 4), col = (id / (BK / 4)) ^ (g % 4 * 8); float4 v = ra[AROWS ? i : 0];
      if (AV % THREADS == 0 || id < AV) { float* s = sa + g * 4 * BM + col; s[0] = v.x; s[BM] = v.y; s[2 * BM] = v.z; s[3 * BM] = v.w; }
    }
  };
  float d[TM][TN];
UNROLL
  for (int i = 0; i < TM; ++i)
UNROLL
    for (int j = 0; j < TN; ++j) d[i][j] = 0.f;
UNROLL
  for (int s = 0; s < STAGES - 1; ++s) { load_b(from + s, s); fetch_a(from + s); put_a(from + s, s); }
  int out = 0, in = STAGES - 1;
#pragma unroll 1
  for (int step = from; step < to; ++step) {
    copy_wait<STAGES - 2>(); __syncthreads(); load_b(step + STAGES - 1, in); fetch_a(step + STAGES - 1);
    const float *sa = sh + out * STAGE, *sb = sa + BK * BM; float fa[2][TM], fb[2][TN];
    auto fragment = [&](int k, float (&x)[TM], float (&y)[TN]) {
UNROLL
      for (int i = 0; i < TM; i += 4) { int c = i / 4 * (BM / TM) * 4 + ty * 4; float4 v = *(const float4*)(sa + k * BM + (AROWS ? c ^ (k / 4 % 4 * 8) : c)); x[i] = v.x; x[i + 1] = v.y; x[i + 2] = v.z; x[i + 3] = v.w; }
UNROLL
      for (int j = 0; j < TN; j += 4) { float4 v = *(const float4*)(sb + k * BN + j / 4 * (BN / TN) * 4 + tx * 4); y[j] = v.x; y[j + 1] = v.y; y[j + 2] = v.z; y[j + 3] = v.w; }
    };
    fragment(0, fa[0], fb[0]);
UNROLL
    for (int k = 0; k < BK; ++k) {
      if (k + 1 < BK) fragment(k + 1, fa[(k + 1) & 1], fb[(k + 1) & 1]);
UNROLL
      for (int i = 0; i < TM; ++i)
UNROLL
        for (int j = 0; j < TN; ++j) d[i][j] += fa[k & 1][i] * fb[k & 1][j];
    }
    put_a(step + STAGES - 1, in); in = in + 1 == STAGES ? 0 : in + 1; out = out + 1 == STAGES ? 0 : out + 1;
  }
  copy_wait<0>();
  float* c = p.c + z * p.zc + split * p.zs; float least = p.relu ? 0.f : -3.402823466e38f;
UNROLL
  for (int j = 0; j < TN; j += 4) {
    int col = n0 + j / 4 * (BN / TN) * 4 + tx * 4; float4 bias = make_float4(0.f, 0.f, 0.f, 0.f);
    if (BV == 4) {
      if (col >= p.n) continue; if (p.bias) bias = *(const float4*)(p.bias + col); int image4 = col / p.hw; float* g = c + image4 * p.cimg + (col - image4 * p.hw);
UNROLL
      for (int i = 0; i < TM; ++i) {
        int row = m0 + i / 4 * (BM / TM) * 4 + ty * 4 + i % 4; if (row >= p.m) continue; 
        store4(g + (long long)row * p.ldc, fmaxf(d[i][j] + bias.x, least), fmaxf(d[i][j + 1] + bias.y, least), fmaxf(d[i][j + 2] + bias.z, least), fmaxf(d[i][j + 3] + bias.w, least));
      }
    } else {
UNROLL
      for (int s = 0; s < 4; ++s) {
        if (col + s >= p.n) continue; int image1 = (col + s) / p.hw; float* g = c + image1 * p.cimg + (col + s - image1 * p.hw);
UNROLL
        for (int i = 0; i < TM; ++i) { int row = m0 + i / 4 * (BM / TM) * 4 + ty * 4 + i % 4; if (row < p.m) g[(long long)row * p.ldc] = d[i][j + s]; }
      }
    }
  }
}
template <int BM, int BN, int TM, int TN, int BK, int STAGES, int AROWS, int BV, int BLOCKS> int gemm_launch(const Gemm& p, int products, cudaStream_t st) {
  return launch(gemm<BM, BN, TM, TN, BK, STAGES, AROWS, BV, BLOCKS>, dim3((p.m + BM - 1) / BM, (p.n + BN - 1) / BN, products * p.splits), dim3(BM / TM * (BN / TN)), STAGES * BK * (BM + BN) * 4, st, p);
}
