// What the kernel of global_avg_pool is given.
#pragma once

#include "../../operations/global_avg_pool.h"
#include "kernel.h"
#include "tiling.h"

namespace bam_fused::cpu {

struct TiledPool : PoolCall {
  static const ForDtypes<TiledPool> baseline, avx2, avx512, avx512_bf16;

  Tiling tiling;
  void* sums;    // compute type [samples, tiles along the positions, channels]
  double scale;  // of each tile's sums
};

// Positions as rows: so many are added to each other, and their sum to that of the tile.
constexpr int64_t kPoolGroup = 8;

}  // namespace bam_fused::cpu
