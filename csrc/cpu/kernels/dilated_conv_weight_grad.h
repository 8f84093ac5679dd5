// What the gradient of a dilated convolution's weight is given.
#pragma once

#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

// The gradient of a dilated convolution's weight. A strip is a few rows of the map, a split a run of strips over all samples.
struct DilatedConvWeightGradArguments {
  static const ForDtypes<DilatedConvWeightGradArguments> baseline, avx2, avx512;

  int64_t samples, height, width, inputs, outputs, dilation;
  int64_t strip_rows, splits;
  PerSample in, grad;  // features; grad's channels are the outputs
  void* partials;      // [9 taps, outputs, splits, inputs]
};

}  // namespace bam_fused::cpu
