// The part of the CUDA language and runtime that the project's kernels use, on the CPU: this file stands where the
// toolkit's cuda_runtime.h would, so that the same .cu sources compile with an ordinary C++ compiler.
//
// How blocks and threads run is in execution.h; what loads and stores do is in memory.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct float2 {
  float x, y;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline float __fmul_rn(float a, float b) { return a * b; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#include "execution.h"
#include "memory.h"

using cudaStream_t = void*;

enum cudaError_t { cudaSuccess, cudaErrorUnknown };

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "error"; }

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

/// As for a kernel of 80 registers on a multiprocessor of sm_90.
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t shared) {
  const int by_registers = 24 / (threads / 32), by_shared = static_cast<int>(233472 / (shared + 1024));
  *blocks = by_registers < by_shared ? by_registers : by_shared;
  return cudaSuccess;
}

template <typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Arguments...), Arguments... arguments) {
  cuda_host::run(config->gridDim.x, config->blockDim.x, config->dynamicSmemBytes, [&] { kernel(arguments...); });
  return cudaSuccess;
}
