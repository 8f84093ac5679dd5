// What the kernels of BAM's layers share.
//
// The spatial branch's features are [positions, channels] in the compute type, the last dimension padded with zeros to
// whole vectors. `Finish` arrays are padded likewise.
#pragma once

#include <stdint.h>

namespace bam_fused::cpu {

// Where something is kept for each sample.
struct PerSample {
  void* data;
  int64_t sample_bytes;

  void* at(int64_t sample) const { return (char*)data + sample * sample_bytes; }
};

// A run of a layer's inputs and outputs in the compute type: [taps, inputs, outputs], with zeros up to whole vectors.
struct PackedWeight {
  const void* data;
  int64_t first_input, inputs;
  int64_t first_output, outputs;
};

// What follows a layer's sums: sum * scale + shift, per output, which is bias and norm in one; then ReLU, if wanted.
struct Finish {
  const void* scale;
  const void* shift;
  bool relu;
};

}  // namespace bam_fused::cpu
