// What the last layers of a whole BAM are given.
#pragma once

#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

struct ChannelLayerArguments {
  static const ForDtypes<ChannelLayerArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t inputs, outputs;
  int64_t part_outputs, parts;  // outputs in a part, and how many parts there are per sample
  const void* weight;           // [outputs, inputs], of the dtype of the kernel
  Finish finish;
  const void* in;  // [samples, inputs]
  void* out;       // [samples, outputs]
};

struct SpatialLogitsArguments {
  static const ForDtypes<SpatialLogitsArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t positions, inputs;
  int64_t part_positions, parts;
  const void* weight;  // one row, padded
  Finish finish;
  PerSample in;      // features
  Finish in_finish;  // what they go through first; no scale where that is nothing
  void* out;         // [samples, positions]
};

}  // namespace bam_fused::cpu
