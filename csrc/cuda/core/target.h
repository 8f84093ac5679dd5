// Where a launch runs, and where it gets memory from. No header of PyTorch here.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

#include "../../shared/layout.h"

namespace bam_fused {
namespace cuda {

/// What the tiling is fitted to.
struct Device {
  int index;
  int multiprocessors;
  int bandwidth;  ///< of the memory: a multiprocessor's share, in bytes per microsecond
};

/// Gives that many bytes of device memory, aligned to 16, which stay valid until the work queued on the stream is done.
using Allocate = std::function<void*(size_t)>;

}  // namespace cuda

struct Target {
  cudaStream_t stream;
  cuda::Device device;
  int threads;  ///< the widest block, at most kThreads
  cuda::Allocate allocate;
};

}  // namespace bam_fused
