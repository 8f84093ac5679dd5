// A call that is cut into tiles, as its kernel takes it.
#pragma once

#include "kernel.h"
#include "tiling.h"

namespace bam_fused::cpu {

// The call's logits are contiguous and in the compute type. A kernel that sums leaves each tile's sums here; what is
// null is not wanted.
template <class Call> struct Tiled : Call {
  static const ForDtypes<Tiled> baseline, avx2, avx512, avx512_bf16;

  Tiling tiling;
  void* row_partials;     // compute type [samples, column_tiles, rows]: sums over the columns, or null
  void* column_partials;  // compute type [samples, row_tiles, columns]: sums over the rows, or null
};

}  // namespace bam_fused::cpu
