// Prototype of xnor_gemm on Hopper's wgmma (sm_90a): TMA loads, mbarrier pipeline, one producer warp, two consumer warpgroups,
// each MI tiles of m64 x N; CL = 2: two neighbours along m form a cluster, each loads half of B's tile and multicasts it.
// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -shared -Xcompiler -fPIC
#include <cuda_runtime.h>
#include <cudaTypedefs.h>
#include "wgmma_gen.h"
struct Out { const int *pa, *pb; float* c; int m, n, kbytes; };
__device__ __forceinline__ unsigned smem_of(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void bar_init(unsigned b, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" :: "r"(b), "r"(count)); }
__device__ __forceinline__ void bar_expect(unsigned b, int bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" :: "r"(b), "r"(bytes) : "memory"); }
__device__ __forceinline__ void bar_arrive(unsigned b, int rank) {           // on block `rank` of the cluster
  asm volatile("{.reg .b32 r; mapa.shared::cluster.u32 r,%0,%1; mbarrier.arrive.shared::cluster.b64 _,[r];}" :: "r"(b), "r"(rank) : "memory"); }
__device__ __forceinline__ void bar_wait(unsigned b, int parity) {
  for (int tries = 0; ; ++tries) {
    int done; asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p,[%1],%2; selp.u32 %0,1,0,p;}" : "=r"(done) : "r"(b), "r"(parity) : "memory");
    if (done) return; if (tries > 1 << 20) __trap();                        // a prototype must not hang the machine
  }
}
__device__ __forceinline__ void tma(unsigned s, const CUtensorMap* t, int x, int y, unsigned bar) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0],[%1,{%2,%3}],[%4];" :: "r"(s), "l"(t), "r"(x), "r"(y), "r"(bar) : "memory"); }
__device__ __forceinline__ void tma_all(unsigned s, const CUtensorMap* t, int x, int y, unsigned bar, unsigned short mask) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0],[%1,{%2,%3}],[%4],%5;" :: "r"(s), "l"(t), "r"(x), "r"(y), "r"(bar), "h"(mask) : "memory"); }

// registers that wgmma writes behind the compiler's back: nothing that reads them may move above the wait (seen: it does, silently wrong)
template <int C> __device__ __forceinline__ void fence(int* d) {
#pragma unroll
  for (int i = 0; i < C; ++i) asm volatile("" : "+r"(d[i]) :: "memory");
}

__device__ __forceinline__ void tma_store(const CUtensorMap* t, int x, int y, unsigned s) { asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0,{%1,%2}],[%3];" :: "l"(t), "r"(x), "r"(y), "r"(s) : "memory"); }

// Persistent: every cluster walks over tiles; the producer runs ahead through the epilogue of the tile before.
// PP 0: both warpgroups share a tile of 128 MI x N; 1: each has its own of 64 MI x N, so that one multiplies while the other writes.
// EP 0: st.cs from registers, 1: plain st, 2: through shared memory and TMA stores (n a multiple of 4).
template <int MI, int N, int STAGES, int BLOCKS, int CL, int PP, int EP> __global__ void __launch_bounds__(288, BLOCKS)
wgmma_gemm(const __grid_constant__ CUtensorMap ta, const __grid_constant__ CUtensorMap tb, const __grid_constant__ CUtensorMap tc, Out p, int tiles_m, int tiles) {
  constexpr int BM = (PP ? 64 : 128) * MI, STAGE = (BM + N) * 128;
  extern __shared__ __align__(1024) unsigned char shared[]; __shared__ __align__(8) unsigned long long bars[2 * STAGES]; __shared__ __align__(8) int set_b[2][2][N];
  unsigned base = smem_of(shared), full = smem_of(bars), empty = full + 8 * STAGES; unsigned rank = 0;
  if (CL > 1) asm volatile("mov.u32 %0,%%cluster_ctarank;" : "=r"(rank));
  int steps = (p.kbytes + 127) / 128, it = 0, first = blockIdx.x / CL, stride = gridDim.x / CL;
  if (threadIdx.x == 0) { for (int s = 0; s < STAGES; ++s) { bar_init(full + 8 * s, 1); bar_init(empty + 8 * s, (PP ? 1 : 2) * CL); } asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
  if (CL > 1) asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory"); else __syncthreads();
  if (threadIdx.x >= 256) {
    if (threadIdx.x == 256)
      for (int t = first; t < tiles; t += stride) {
        int m0 = (t % tiles_m * CL + rank) * BM, n0 = t / tiles_m * N;
        for (int k = 0; k < steps; ++k, ++it) {
          int s = it % STAGES; unsigned at = base + s * STAGE, f = full + 8 * s;
          bar_wait(empty + 8 * s, (it / STAGES & 1) ^ 1);
          bar_expect(f, STAGE); tma(at, &ta, k * 128, m0, f);
          if (CL == 1) tma(at + BM * 128, &tb, k * 128, n0, f);
          else tma_all(at + BM * 128 + rank * (N / CL) * 128, &tb, k * 128, n0 + rank * (N / CL), f, (1 << CL) - 1);
        }
      }
    __syncwarp();
  } else {
    int g = threadIdx.x / 128, lane = threadIdx.x & 31, warp = threadIdx.x / 32 & 3, bits = p.kbytes * 8, flip = 0, me = threadIdx.x % 128;
    for (int t = first, q = 0; t < tiles; t += stride, ++q) {
      if (PP && (q & 1) != g) { it += steps; continue; }
      int m0 = (t % tiles_m * CL + rank) * BM + (PP ? 0 : g * 64 * MI), n0 = t / tiles_m * N, d[MI][N / 2], left[MI][2]; flip ^= 1;
      for (int c = me; c < N; c += 128) set_b[g][flip][c] = n0 + c < p.n ? p.pb[n0 + c] : 0;
      asm volatile("bar.sync %0,128;" :: "r"(1 + g) : "memory");
      // ping-pong: not before the other's products are over. A parity wait cannot tell phase n from phase n + 2, so a warpgroup that waits early takes the wrong stage
      if (PP && q > 0) asm volatile("bar.sync %0,256;" :: "r"(3 + g) : "memory");
#pragma unroll
      for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) { int row = m0 + i * 64 + warp * 16 + h * 8 + lane / 4; left[i][h] = row < p.m ? bits - 2 * p.pa[row] : 0; }
#pragma unroll
      for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int j = 0; j < N / 2; ++j) d[i][j] = 0;
#pragma unroll 1
      for (int k = 0; k < steps; ++k, ++it) {
        int s = it % STAGES; unsigned at = base + s * STAGE; bar_wait(full + 8 * s, it / STAGES & 1);
        unsigned long long da = wg_desc(at + (PP ? 0 : g * MI * 8192)), db = wg_desc(at + BM * 128);
#pragma unroll
        for (int i = 0; i < MI; ++i) fence<N / 2>(d[i]);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int q4 = 0; q4 < 4; ++q4)
#pragma unroll
          for (int i = 0; i < MI; ++i) wgmma<0, N>(d[i], da + 512 * i + 2 * q4, db + 2 * q4);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");        // the step before is done: its stage is free
        if (k > 0 && me < CL) bar_arrive(empty + 8 * ((it - 1) % STAGES), me);
      }
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
      for (int i = 0; i < MI; ++i) fence<N / 2>(d[i]);
      if (me < CL) bar_arrive(empty + 8 * ((it - 1) % STAGES), me);
      if (PP && t + stride < tiles) asm volatile("bar.arrive %0,256;" :: "r"(4 - g) : "memory");
      if (EP < 2) {
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            int row = m0 + i * 64 + warp * 16 + h * 8 + lane / 4; if (row >= p.m) continue;
            float* c = p.c + (size_t)row * p.n + n0;
#pragma unroll
            for (int j = 0; j < N / 8; ++j) {
              int col = j * 8 + lane % 4 * 2; if (n0 + col >= p.n) continue;  // n even
              int2 w = *(const int2*)(set_b[g][flip] + col);
              float2 v = make_float2((float)(left[i][h] - 2 * w.x + 4 * d[i][j * 4 + 2 * h]), (float)(left[i][h] - 2 * w.y + 4 * d[i][j * 4 + 2 * h + 1]));
              if (EP == 0) __stcs((float2*)(c + col), v); else *(float2*)(c + col) = v;
            }
          }
      } else {
        unsigned out = base + STAGES * STAGE + g * 32768;                     // two buffers of 64 rows x 64 columns per warpgroup
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
          for (int ch = 0; ch < N / 64; ++ch) {
            unsigned buffer = out + ((i * (N / 64) + ch) & 1) * 16384;
            if (me == 0) asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
            asm volatile("bar.sync %0,128;" :: "r"(1 + g) : "memory");
#pragma unroll
            for (int j = 0; j < 8; ++j) {
              int2 w = *(const int2*)(set_b[g][flip] + ch * 64 + j * 8 + lane % 4 * 2);
#pragma unroll
              for (int h = 0; h < 2; ++h) {
                int r = warp * 16 + h * 8 + lane / 4, e = (ch * 8 + j) * 4 + 2 * h; unsigned s = buffer + j / 4 * 8192 + r * 128 + ((((j & 3) * 2 + (lane & 3) / 2) ^ (r & 7)) << 4) + (lane & 1) * 8;
                asm volatile("st.shared.v2.f32 [%0],{%1,%2};" :: "r"(s), "f"((float)(left[i][h] - 2 * w.x + 4 * d[i][e])), "f"((float)(left[i][h] - 2 * w.y + 4 * d[i][e + 1])) : "memory");
              }
            }
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            asm volatile("bar.sync %0,128;" :: "r"(1 + g) : "memory");
            if (me == 0) {
              for (int b = 0; b < 2; ++b) if (n0 + ch * 64 + b * 32 < p.n) tma_store(&tc, n0 + ch * 64 + b * 32, m0 + i * 64, buffer + b * 8192);
              asm volatile("cp.async.bulk.commit_group;" ::: "memory");
            }
          }
      }
    }
    if (EP == 2 && me == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
  if (CL > 1) asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");   // no block leaves while a neighbour still writes to it
}

typedef void (*Kernel)(CUtensorMap, CUtensorMap, CUtensorMap, Out, int, int);
struct Config { const char* name; Kernel kernel; int bm, bn, shared, cl, blocks, ep; };
#define W(MI, N, S, BL, CL, PP, EP) {"wgmma m64x" #MI " n" #N " stages " #S " blocks " #BL " cluster " #CL " pingpong " #PP " epilogue " #EP, wgmma_gemm<MI, N, S, BL, CL, PP, EP>, (PP ? 64 : 128) * MI, N, S * ((PP ? 64 : 128) * MI + N) * 128 + (EP == 2 ? 65536 : 0), CL, BL, EP}
static const Config configs[] = {
  W(1, 64, 4, 1, 1, 0, 0), W(1, 128, 3, 2, 1, 0, 1), W(1, 256, 4, 1, 1, 0, 0), W(1, 256, 4, 1, 1, 0, 1), W(1, 256, 4, 1, 2, 0, 1), W(1, 256, 3, 1, 1, 0, 2), W(1, 256, 3, 1, 2, 0, 2), W(2, 128, 3, 1, 1, 0, 2), W(1, 128, 4, 1, 1, 0, 2),
  W(2, 128, 6, 1, 1, 1, 0), W(2, 128, 6, 1, 1, 1, 1), W(2, 128, 4, 1, 1, 1, 2), W(2, 128, 4, 1, 2, 1, 2), W(2, 128, 6, 1, 2, 1, 1), W(1, 256, 4, 1, 1, 1, 1), W(1, 256, 3, 1, 1, 1, 2), W(1, 256, 3, 1, 2, 1, 2)};
static int map(CUtensorMap* t, CUtensorMapDataType type, const void* p, int rows, int columns, int bytes, int box_columns, int box_rows) {
  static PFN_cuTensorMapEncodeTiled_v12000 f = nullptr; cudaDriverEntryPointQueryResult q;
  if (!f) if (cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void**)&f, 12000, cudaEnableDefault, &q)) return e;
  cuuint64_t dims[2] = {(cuuint64_t)columns, (cuuint64_t)rows}, pitch[1] = {(cuuint64_t)columns * bytes}; cuuint32_t b[2] = {(cuuint32_t)box_columns, (cuuint32_t)box_rows}, step[2] = {1, 1};
  return f(t, type, 2, (void*)p, dims, pitch, b, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}
extern "C" int wgmma_count() { return sizeof(configs) / sizeof(configs[0]); }
extern "C" const char* wgmma_name(int i) { return configs[i].name; }
extern "C" int wgmma_gemm_run(int i, const void* a, const void* b, const int* pa, const int* pb, float* c, int m, int n, int kbytes, int times, cudaStream_t st) {
  const Config& f = configs[i]; if (cudaError_t e = cudaFuncSetAttribute(f.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, f.shared)) return e;
  CUtensorMap ta, tb, tc{};
  if (int e = map(&ta, CU_TENSOR_MAP_DATA_TYPE_UINT8, a, m, kbytes, 1, 128, f.bm)) return 10000 + e;
  if (int e = map(&tb, CU_TENSOR_MAP_DATA_TYPE_UINT8, b, n, kbytes, 1, 128, f.bn / f.cl)) return 10000 + e;
  if (f.ep == 2) if (int e = map(&tc, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, c, m, n, 4, 32, 64)) return 20000 + e;
  static int sms = 0; if (!sms) cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0);
  int tm = ((m + f.bm - 1) / f.bm + f.cl - 1) / f.cl, tiles = tm * ((n + f.bn - 1) / f.bn), clusters = sms * f.blocks / f.cl;
  cudaLaunchConfig_t l{}; l.gridDim = clusters * f.cl; l.blockDim = 288; l.dynamicSmemBytes = f.shared; l.stream = st;
  cudaLaunchAttribute at{}; at.id = cudaLaunchAttributeClusterDimension; at.val.clusterDim.x = f.cl; at.val.clusterDim.y = at.val.clusterDim.z = 1;
  if (f.cl > 1) { l.attrs = &at; l.numAttrs = 1; int fit; if (cudaError_t e = cudaOccupancyMaxActiveClusters(&fit, f.kernel, &l)) return e; if (fit < clusters) clusters = fit; }
  if (clusters > tiles) clusters = tiles; l.gridDim = clusters * f.cl;
  for (int t = 0; t < times; ++t) if (cudaError_t e = cudaLaunchKernelEx(&l, f.kernel, ta, tb, tc, Out{pa, pb, c, m, n, kbytes}, tm, tiles)) return e;
  return cudaGetLastError();
}
