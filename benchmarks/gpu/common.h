// What all kernels of this folder share: asynchronous copies, dynamic shared memory, launches; each with a body for cuemu.h.
#pragma once
#ifndef CUEMU
#include <cuda_runtime.h>
typedef unsigned smem_t;
__device__ __forceinline__ smem_t smem_of(const void* p) { return (smem_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(smem_t s, const void* g, bool in) { asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" :: "r"(s), "l"(g), "r"(in ? 16 : 0)); }
__device__ __forceinline__ void copy4(smem_t s, const void* g, bool in) { asm volatile("cp.async.ca.shared.global [%0],[%1],4,%2;" :: "r"(s), "l"(g), "r"(in ? 4 : 0)); }
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void copy_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }
// plain assignments of float4 became four STG.32 (nvcc 13.0)
__device__ __forceinline__ void store4(float* p, float x, float y, float z, float w) { asm volatile("st.global.v4.f32 [%0],{%1,%2,%3,%4};" :: "l"(p), "f"(x), "f"(y), "f"(z), "f"(w) : "memory"); }
__device__ __forceinline__ void store4(int* p, int x, int y, int z, int w) { asm volatile("st.global.v4.s32 [%0],{%1,%2,%3,%4};" :: "l"(p), "r"(x), "r"(y), "r"(z), "r"(w) : "memory"); }
// computed again below, so that it need not live through a loop
__device__ __forceinline__ void hide(int& v) { asm volatile("" : "+r"(v)); }
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) float name[]
template <class K, class... A> int launch(K kernel, dim3 grid, dim3 block, int bytes, cudaStream_t st, A... args) {
  if (bytes > 232448 || grid.y > 65535 || grid.z > 65535) return 1;
  if (bytes > 48 << 10) { int e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes); if (e) return e; }
  kernel<<<grid, block, bytes, st>>>(args...); return cudaGetLastError();
}
#else
typedef char* smem_t;
inline smem_t smem_of(const void* p) { return (smem_t)p; }
inline void cuemu_do(const cuemu::Copy& c) { if (c.in) memcpy(c.to, c.from, c.bytes); else memset(c.to, 0, c.bytes); }
inline void cuemu_copy(smem_t s, const void* g, int bytes, bool in) { cuemu::Copy c{s, (const char*)g, bytes, in, cuemu::groups[cuemu::current]};
  if (!cuemu::late_copies()) cuemu_do(c); else cuemu::copies[cuemu::current].push_back(c); }
inline void copy16(smem_t s, const void* g, bool in) { cuemu_copy(s, g, 16, in); }
inline void copy4(smem_t s, const void* g, bool in) { cuemu_copy(s, g, 4, in); }
inline void copy_commit() { ++cuemu::groups[cuemu::current]; }
template <int N> void copy_wait() { auto& v = cuemu::copies[cuemu::current]; int upto = cuemu::groups[cuemu::current] - N; size_t k = 0;
  while (k < v.size() && v[k].group < upto) cuemu_do(v[k++]); v.erase(v.begin(), v.begin() + k); }
#define DYNAMIC_SHARED(name) float* name = cuemu::dynamic
template <class K, class... A> int launch(K kernel, dim3 grid, dim3 block, int bytes, cudaStream_t, A... args) {
  if (bytes > 232448 || grid.y > 65535 || grid.z > 65535) return 1;
  cuemu::dynamic_bytes = bytes; cuemu::run(grid, block, [=] { kernel(args...); }); return 0;
}
template <class T> void store4(T* p, T x, T y, T z, T w) { if ((size_t)p % 16) abort(); p[0] = x; p[1] = y; p[2] = z; p[3] = w; }
inline void hide(int&) {}
template <class T> T __ldg(const T* p) { return *p; }
inline float __int_as_float(int v) { float f; memcpy(&f, &v, 4); return f; }
#endif
#define UNROLL _Pragma("unroll")
