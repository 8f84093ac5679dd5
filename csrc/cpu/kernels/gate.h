// What the gate and its backward are given.
#pragma once

#include "../../shared/combine.h"
#include "../../shared/layout.h"
#include "kernel.h"
#include "tiling.h"

namespace bam_fused::cpu {

struct GateArguments {
  static const ForDtypes<GateArguments> baseline, avx2, avx512;

  Tiling tiling;
  Combine combine;
  Map x, out;
  const void* row_logits;     // compute type [samples, rows]
  const void* column_logits;  // compute type [samples, columns]
};

struct GateBackwardArguments {
  static const ForDtypes<GateBackwardArguments> baseline, avx2, avx512;

  Tiling tiling;
  Combine combine;
  Map grad, x, dx;  // dx may be null: the logits' gradients alone
  const void* row_logits;
  const void* column_logits;
  void* row_partials;     // compute type [samples, column_tiles, rows]
  void* column_partials;  // compute type [samples, row_tiles, columns]
};

}  // namespace bam_fused::cpu
