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
  PerSample in;    // features as factors
  int64_t in_row;  // of these from position to position
  PerSample out;   // features of the compute type
  // Where what is finished goes instead, if not null, as numbers that are factors; in the rows of `out` it overwrites
  // none that is still to be read.
  PerSample rounded;
  int64_t rounded_row;
  // Sums over what is written, of which a part holds whole chunks; not wanted where their partials are null.
  NormStatisticsArguments statistics;
  NormGradSumsArguments grad_sums;
};

}  // namespace bam_fused::cpu
