// Tensors as kernels take them: plain pointers, sizes and strides. Of a feature map they know, per sample, its rows,
// each a run of adjacent columns in memory; which dimension the rows are is not theirs to know (rows.h). No header of
// PyTorch here.
#pragma once

#include <stdint.h>

namespace bam_fused {

struct Extent {
  int64_t samples, rows, columns;
};

// In elements; adjacent columns are adjacent in memory.
struct Strides {
  int64_t sample, row;
};

struct Map {
  void* data;
  Strides strides;
};

// One vector of logits per sample, in the feature map's dtype or in float32; strides in elements.
struct Logits {
  const void* data;
  int64_t sample, step;
  bool float32;
};

// One contiguous vector of results per sample, in the feature map's dtype or in float32.
struct Results {
  void* data;
  bool float32;
};

// Where an operation runs; each library has its own.
struct Target;

}  // namespace bam_fused
