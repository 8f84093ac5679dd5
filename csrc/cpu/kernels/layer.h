// What the kernels of BAM's layers share.
//
// Weights are packed as [taps, inputs, outputs] and the spatial branch's features as [positions, channels], both in the compute
// type, the last dimension padded with zeros to whole vectors. `Finish` arrays are padded likewise.
#pragma once

#include <stdint.h>

namespace bam_fused::cpu {

// Where something is kept for each sample, from a multiple of 64 bytes on.
struct PerSample {
  void* data;
  int64_t sample_bytes, offset;

  void* at(int64_t sample) const {
    const uintptr_t begin = (uintptr_t)data + (uintptr_t)(sample * sample_bytes);
    return (void*)((begin + 63) / 64 * 64 + (uintptr_t)offset);
  }
};

// What follows a layer's sums: sum * scale + shift, per output, which is bias and norm in one; then ReLU, if wanted.
struct Finish {
  const void* scale;
  const void* shift;
  bool relu;
};

}  // namespace bam_fused::cpu
