// CUDA runtime errors as exceptions.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace bam_fused::cuda {

inline void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // takes it back: whoever asked next, PyTorch say, would report it as its own
  throw std::runtime_error(what + ": " + cudaGetErrorString(error));
}

}  // namespace bam_fused::cuda
