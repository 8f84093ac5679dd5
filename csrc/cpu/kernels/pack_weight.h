// What packing a weight is given.
#pragma once

#include "kernel.h"

namespace bam_fused::cpu {

// What a factor holds two of; nothing where it is a number of the compute type.
enum class Pairs { none, of_inputs, of_outputs };

struct PackArguments {
  static const ForDtypes<PackArguments> baseline, avx2, avx512, avx512_bf16;

  const void* weight;  // [outputs, inputs, taps], of the dtype of the kernel
  void* packed;        // [taps, inputs, outputs], of which there are half as many factors where these hold two
  int64_t outputs, inputs, taps;
  Pairs pairs;
};

}  // namespace bam_fused::cpu
