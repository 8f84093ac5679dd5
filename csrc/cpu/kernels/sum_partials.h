// What the second half of every reduction is given.
#pragma once

#include "kernel.h"

namespace bam_fused::cpu {

// out[sample, i] = scale * (the sum over the partials of in[sample, partial, i]), in the order of the partials
struct SumPartialsArguments {
  static const ForDtypes<SumPartialsArguments> baseline, avx2, avx512, avx512_bf16;

  const void* in;  // compute type [samples, partials, length]
  void* out;       // `out_dtype` [samples, length], but see below
  Dtype out_dtype;
  int64_t samples, partials, length;
  double scale;
  int64_t interleaved = 1;  // samples whose sums take turns in `out`: [samples / interleaved, length, interleaved]
};

}  // namespace bam_fused::cpu
