"""CUDA source of 16 × 8 products of TF32 numbers, eight terms each, on the tensor cores."""

TF32_MMA = r"""
#ifndef FASTCONV_TF32
#define FASTCONV_TF32
// The nearest number with ten bits behind the point; of two, the one farther from zero.
__device__ __forceinline__ unsigned fastconv_tf32(const float x) {
#if defined(FASTCONV_EMULATOR)
  return fastconv_emulated::tf32(x);
#else
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
#endif
}
// d += the product of 16 rows of eight terms of a and eight columns of b, in the fragments of mma.m16n8k8.
__device__ __forceinline__ void fastconv_tf32_mma(float* d, const unsigned* a, const unsigned* b) {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::tf32_mma(d, a, b);
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
#endif
"""
"""``fastconv_tf32(x)``, and ``fastconv_tf32_mma(d, a, b)`` for a whole warp.

Of GPUs before 8.0, which have neither, no file holds code of them.
"""
