// What CUDA says in its own syntax, behind one name each, so that the kernels also compile without a CUDA compiler: the
// program that executes them on the CPU (tests/cuda) provides the other side.
#pragma once

#include <cuda_runtime.h>

namespace bam_fused::cuda {

/// The shared memory of a block, as much as its launch asked for, aligned to 16 bytes.
__device__ __forceinline__ void* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ uint4 memory_of_the_block[];
  return memory_of_the_block;
#else
  return block_shared_memory();
#endif
}

/// What this thread wrote, and what a barrier showed it of others, comes before whatever follows it in a thread that
/// has seen, and fenced off, something that this one wrote later.
__device__ __forceinline__ void fence() {
#ifdef __CUDACC__
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
#else
  __threadfence();
#endif
}

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
