// A feature map as kernels take it: per sample its rows, each a run of adjacent columns in memory. Which dimension
// the rows are is not theirs to know (rows.h). No header of PyTorch here.
#pragma once

#include <stdint.h>

namespace bam_fused {

// In elements; adjacent columns are adjacent in memory.
struct Strides {
  int64_t sample, row;
};

struct Map {
  void* data;
  Strides strides;
};

}  // namespace bam_fused
