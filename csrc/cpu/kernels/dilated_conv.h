// What the dilated convolution is given.
#pragma once

#include "kernel.h"
#include "layer.h"
#include "norm.h"

namespace bam_fused::cpu {

struct DilatedConvArguments {
  static const ForDtypes<DilatedConvArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t height, width, inputs, outputs, dilation;
  int64_t part_rows, parts;  // rows of the map in a part, and how many parts there are per sample
  PackedWeight weight;       // taps in the order of the kernel's rows
  Finish finish;
  PerSample in, out;  // features; what goes in is factors
  bool as_factors;    // what comes out, else it is of the compute type
  // Sums over what is written, of which a part holds whole chunks; not wanted where their partials are null.
  NormStatisticsArguments statistics;
  NormGradSumsArguments grad_sums;
};

}  // namespace bam_fused::cpu
