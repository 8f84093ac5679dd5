// What the gradient of x behind a squeeze is given.
#pragma once

#include "../../shared/combine.h"
#include "../../shared/layout.h"
#include "kernel.h"
#include "squeeze.h"
#include "tiling.h"

namespace bam_fused::cpu {

// The gradient of x behind a squeeze, and behind the gate that follows it where `grad` is there.
struct SqueezeInputGradArguments {
  static const ForDtypes<SqueezeInputGradArguments> baseline, avx2, avx512, avx512_bf16;

  Tiling tiling;
  int64_t channels, positions, reduced;
  bool rows_are_channels, grad_has_positions_as_rows;
  Map dx;
  const void* weight;         // [reduced, channels], of dx's dtype, where rows are positions
  const void* turned_weight;  // [channels, left_row] factors, where rows are channels
  int64_t left_row;           // from row to row of the left factor
  const void* reduced_grad;   // [samples, positions, reduced], or [samples, reduced, positions] where rows are channels
  const void* pooled_grad;    // [samples, channels], already divided by the number of positions
  Combine combine;
  Map grad;
  const void *row_logits, *column_logits;
};

constexpr int64_t kMaxInputGradColumns = 256;  // a tile's products stay in the cache

}  // namespace bam_fused::cpu
