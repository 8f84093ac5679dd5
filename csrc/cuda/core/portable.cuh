// What CUDA says in its own syntax, behind one name each, so that the kernels also compile without a CUDA compiler: the
// program that executes them on the CPU (tests/cuda) provides the other side.
#pragma once

#include <cuda_runtime.h>

// The shared memory of a block.
#ifdef __CUDACC__
#define BAM_SHARED(name, ...) __shared__ __VA_ARGS__ name
#else
#define BAM_SHARED(name, ...) auto& name = *static_cast<__VA_ARGS__*>(block_shared_memory(sizeof(__VA_ARGS__)))
#endif

namespace bam_fused::cuda {

/// An ordinary store to global memory. (`__stwb` is not that: it compiles to a store of a stronger order.)
template <typename T>
__device__ __forceinline__ void write(T* to, T value) {
#ifdef __CUDACC__
  *to = value;
#else
  store_to_global(to, value);
#endif
}

/// The value, of which the compiler knows nothing: what is computed from it is computed where it is used, instead of
/// occupying registers through a loop.
__device__ __forceinline__ unsigned opaque(unsigned value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace bam_fused::cuda
