// What packing a weight is given.
#pragma once

#include "kernel.h"

namespace bam_fused::cpu {

struct PackArguments {
  static const ForDtypes<PackArguments> baseline, avx2, avx512;

  const void* weight;  // [outputs, inputs, taps], of the dtype of the kernel
  void* packed;        // in the compute type
  int64_t outputs, inputs, taps;
};

}  // namespace bam_fused::cpu
