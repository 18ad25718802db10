"""CUDA source that several kernels of packed bits share: 16 × 8 products of rows of 256 bits on the tensor cores."""

BMMA = r"""
#ifndef FASTCONV_BMMA
#define FASTCONV_BMMA
#if !defined(FASTCONV_EMULATOR) && __CUDA_ARCH__ < 800
// By value, and called: a hundred copies of it would take ptxas minutes.
__device__ __noinline__ int4 fastconv_bmma_by_shuffles(int4 d, uint4 a, uint2 b) {
  const int row = threadIdx.x & 28, column = 8 * (threadIdx.x & 3);
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const unsigned x = __shfl_sync(0xffffffffu, a.x, row + word), y = __shfl_sync(0xffffffffu, a.y, row + word);
    const unsigned z = __shfl_sync(0xffffffffu, a.z, row + word), w = __shfl_sync(0xffffffffu, a.w, row + word);
    const unsigned p = __shfl_sync(0xffffffffu, b.x, column + word), q = __shfl_sync(0xffffffffu, b.y, column + word);
    const unsigned r = __shfl_sync(0xffffffffu, b.x, column + 4 + word);
    const unsigned s = __shfl_sync(0xffffffffu, b.y, column + 4 + word);
    d.x += __popc(x & p) + __popc(z & q);
    d.y += __popc(x & r) + __popc(z & s);
    d.z += __popc(y & p) + __popc(w & q);
    d.w += __popc(y & r) + __popc(w & s);
  }
  return d;
}
#endif
// d += the common ones of a row of 256 bits of a and a column of b, in the fragments of mma.m16n8k256.
__device__ __forceinline__ void fastconv_bmma(int* d, const unsigned* a, const unsigned* b) {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::bmma_and(d, a, b);
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  const int4 sums = fastconv_bmma_by_shuffles(
      make_int4(d[0], d[1], d[2], d[3]), make_uint4(a[0], a[1], a[2], a[3]), make_uint2(b[0], b[1]));
  d[0] = sums.x; d[1] = sums.y; d[2] = sums.z; d[3] = sums.w;
#endif
}
#endif
"""
"""``fastconv_bmma(d, a, b)`` for a whole warp.

Of the two products that the instruction offers, the common ones are what every generation has in hardware; the
exclusive or, which Hopper emulates, is ``popc(a) + popc(b) - 2 popc(a & b)``. GPUs without the instruction exchange
their words by shuffles.
"""
