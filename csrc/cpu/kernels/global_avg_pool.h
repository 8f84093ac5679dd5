// What the sums behind global average pooling are given.
#pragma once

#include "../../shared/layout.h"
#include "kernel.h"
#include "tiling.h"

namespace bam_fused::cpu {

struct PoolArguments {
  static const ForDtypes<PoolArguments> baseline, avx2, avx512;

  Tiling tiling;
  Map x;
  void* row_partials;     // one of these two is null: the sums over columns, as in gate.h,
  void* column_partials;  // or the sums over rows
};

}  // namespace bam_fused::cpu
