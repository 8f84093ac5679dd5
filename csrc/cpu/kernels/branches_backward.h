// What the gradients of the branches' layers on vectors are given, and the dilated convolutions' weights turned around.
#pragma once

#include "kernel.h"
#include "layer.h"
#include "norm.h"

namespace bam_fused::cpu {

// Of a layer of the channel branch, for some of its inputs.
struct ChannelLayerGradArguments {
  static const ForDtypes<ChannelLayerGradArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t samples, inputs, outputs, part_inputs;
  const void* weight;  // [outputs, inputs]
  const void* in;      // [samples, inputs]
  const void* grad;    // [samples, outputs]
  void* in_grad;       // [samples, inputs]
  void* weight_grad;   // [outputs, inputs], null where it is not wanted
};

// Of the last layer of the spatial branch, for some positions of a sample.
struct SpatialLogitsGradArguments {
  static const ForDtypes<SpatialLogitsGradArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t positions, inputs;
  int64_t part_positions, parts;
  const void* weight;          // one row, padded
  const void* grad;            // [samples, positions]
  PerSample in, in_grad;       // features
  Finish in_finish;            // what they go through first; no scale where that is nothing
  void* weight_grad_partials;  // [samples * parts, padded inputs]
  NormGradSumsArguments
      grad_sums;  // over in_grad, of which a part holds whole chunks; not wanted where the partials are null
};

// [outputs, inputs, taps] -> [taps backwards, outputs, padded inputs] as factors, for the outputs, or pairs of them,
// begin to end. The weight is of the dtype of the kernel where its factors are pairs, else of the compute type.
struct TurnArguments {
  static const ForDtypes<TurnArguments> baseline, avx2, avx512, avx512_bf16;

  const void* weight;
  void* turned;
  int64_t outputs, inputs, taps;
};

}  // namespace bam_fused::cpu
