// What packing a weight is given.
#pragma once

#include "kernel.h"

namespace bam_fused::cpu {

struct PackArguments {
  static const ForDtypes<PackArguments> baseline, avx2, avx512, avx512_bf16;

  const void* weight;  // [outputs, inputs, taps], of the dtype of the kernel
  void* packed;        // [taps, factors, padded outputs]
  int64_t outputs, inputs, taps;
  bool pairs;  // of two inputs in one factor, else of one in the compute type
};

}  // namespace bam_fused::cpu
