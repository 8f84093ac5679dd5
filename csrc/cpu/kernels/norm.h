// What a norm and a ReLU behind a layer are given, forward and backward, on rows of channels.
#pragma once

#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

// Rows of adjacent columns, cut into chunks; all of it per sample. A column is a channel.
struct NormRows {
  int64_t rows, columns, stride;
  int64_t chunk_rows, chunks;
};

struct NormStatisticsArguments {
  static const ForDtypes<NormStatisticsArguments> baseline, avx2, avx512, avx512_bf16;

  NormRows shape;
  PerSample in;
  // [samples * chunks, 2, columns]: the mean over a chunk, and the sum of squares about that.
  void* partials;
};

// out = in * scale + shift, then ReLU.
struct NormArguments {
  static const ForDtypes<NormArguments> baseline, avx2, avx512, avx512_bf16;

  NormRows shape;
  Finish finish;
  PerSample in, out;
};

// With d the gradient in front of the ReLU: its sum, and that of d * (in - mean).
struct NormGradSumsArguments {
  static const ForDtypes<NormGradSumsArguments> baseline, avx2, avx512, avx512_bf16;

  NormRows shape;
  Finish finish;
  const void* mean;
  PerSample in, grad;
  void* partials;  // [samples * chunks, 2, columns]
};

// out = scale * (d - offset - slope * (in - mean)).
struct NormGradArguments {
  static const ForDtypes<NormGradArguments> baseline, avx2, avx512, avx512_bf16;

  NormRows shape;
  Finish finish;
  const void *mean, *offset, *slope;
  PerSample in, grad;
  PerSample out;  // may be grad's where rows are whole vectors
};

}  // namespace bam_fused::cpu
