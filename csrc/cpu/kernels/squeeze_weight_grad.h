// What the gradient of the weight behind a squeeze is given.
#pragma once

#include "../../shared/layout.h"
#include "kernel.h"
#include "squeeze.h"

namespace bam_fused::cpu {

// The gradient of a squeeze's weight. A split is a run of tiles of positions over all samples.
struct SqueezeWeightGradArguments {
  static const ForDtypes<SqueezeWeightGradArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t samples, channels, positions, reduced;
  int64_t tile_positions, tile_channels, splits;
  bool rows_are_channels, grad_has_positions_as_rows;
  Map x;
  const void* reduced_grad;  // [samples, positions, reduced], or [samples, reduced, positions] where rows are channels
  void* partials;            // [channels, splits, reduced] where rows are channels, else [reduced, splits, channels]
};

constexpr int64_t kMaxTilePositions = 128;  // the length of its sums in registers

}  // namespace bam_fused::cpu
