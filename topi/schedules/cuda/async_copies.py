"""CUDA source that several kernels share: asynchronous copies to shared memory, in groups that a thread waits for."""

COPIES = r"""
#ifndef FASTCONV_COPIES
#define FASTCONV_COPIES
__device__ __forceinline__ void fastconv_copy_16(void* to, const void* from) {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async_16(to, from);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory");
#else
  *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
#endif
}
// BYTES, 4, 8 or 16; zeros where they are not inside.
template <int BYTES>
__device__ __forceinline__ void fastconv_copy_inside(void* to, const void* from, bool inside) {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async(to, from, BYTES, inside ? BYTES : 0);
#elif __CUDA_ARCH__ >= 800
  const unsigned place = (unsigned)__cvta_generic_to_shared(to);
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(place), "l"(from), "r"(inside ? 16 : 0) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :: "r"(place), "l"(from), "n"(BYTES), "r"(inside ? BYTES : 0) : "memory");
  }
#else
#pragma unroll
  for (int i = 0; i < BYTES / 4; ++i)
    static_cast<unsigned*>(to)[i] = inside ? static_cast<const unsigned*>(from)[i] : 0u;
#endif
}
__device__ __forceinline__ void fastconv_end_copies() {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int LEFT>
__device__ __forceinline__ void fastconv_await_copies() {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async_wait(LEFT);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
#endif
}
#endif
"""
"""``fastconv_copy_16(to, from)``, ``fastconv_copy_inside<bytes>(to, from, inside)``, ``fastconv_end_copies()`` behind
those of a group, ``fastconv_await_copies<left>()`` until so many groups are left."""
