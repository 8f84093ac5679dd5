// What the launchers of the CUDA kernels take besides maps: plain pointers, strides and sizes, nothing of PyTorch.
//
// Row logits belong to the rows of a map (the channel logits in NCHW), column logits to its columns.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "../../shared/combine.h"
#include "../../shared/dtype.h"
#include "../../shared/layout.h"

namespace bam_fused::cuda {

struct Extent {
  int64_t samples, rows, columns;
};

/// One vector of logits per sample, in the feature map's dtype or in float32; strides in elements.
struct Logits {
  const void* data;
  int64_t sample, step;
  bool float32;
};

/// One contiguous vector of results per sample, in the feature map's dtype or in float32.
struct Results {
  void* data;
  bool float32;
};

/// What the tiling is fitted to.
struct Device {
  int index;
  int multiprocessors;
  int in_flight;  ///< the bytes that a multiprocessor must have under way to take its share of the memory's bandwidth
};

/// Where to run.
struct Target {
  cudaStream_t stream;
  Device device;
  int threads;  ///< the widest block, at most kThreads
};

/// Gives that many bytes of device memory, aligned to 16, which stay valid until the work queued on the stream is done.
using Allocate = std::function<void*(size_t)>;

}  // namespace bam_fused::cuda
