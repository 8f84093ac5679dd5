// What the gradient of a dilated convolution's weight is given.
#pragma once

#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

constexpr int64_t kMostStripPositions = 256;  // a sum of so many products rounds little

// The gradient of a dilated convolution's weight. A strip is a few rows of the input's map (or some columns of one), a
// split a run of strips over all samples, a group some of the outputs.
struct DilatedConvWeightGradArguments {
  static const ForDtypes<DilatedConvWeightGradArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t samples, height, width, inputs, outputs, dilation;
  int64_t strip_rows, strip_columns;
  int64_t groups, splits;
  PerSample in, grad;  // features; grad's channels are the outputs, and its numbers factors of sums over positions
  Finish in_finish;    // what the input goes through first; no scale where that is nothing
  void* partials;      // [outputs, 9 taps, splits, inputs]

  int64_t strips_across() const { return (width + strip_columns - 1) / strip_columns; }
  int64_t strips() const { return (height + strip_rows - 1) / strip_rows * strips_across(); }  // of a sample
};

}  // namespace bam_fused::cpu
