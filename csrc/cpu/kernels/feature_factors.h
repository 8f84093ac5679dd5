// What is given to make factors of features.
#pragma once

#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

// Features as pairs of numbers.
struct FeatureFactorsArguments {
  static const ForDtypes<FeatureFactorsArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t height, width, channels;
  PerSample in;
  // Pairs of channels, in the first half of rows as long as those of `in`, which they may be. Not wanted where null.
  PerSample of_channels;
  // From each position on, its numbers with those of the next one in its row of the map; behind the last one are zeros.
  // Not wanted where null.
  PerSample of_positions;
};

}  // namespace bam_fused::cpu
