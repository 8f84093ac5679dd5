// The logits of a feature map's two sides, its rows and its columns, as kernels take them.
#pragma once

#include "feature_map.h"

namespace bam_fused {

// What belongs to the rows and to the columns of a feature map: one side's logits or their gradient each.
template <class T>
struct Sides {
  T row, column;
};

template <class T>
Sides<T> sides(const FeatureMap& map, const T& of_channels, const T& of_positions) {
  return map.rows_are_channels() ? Sides<T>{of_channels, of_positions} : Sides<T>{of_positions, of_channels};
}

// Logits as the kernels take them; it keeps the memory alive.
struct LogitsView {
  Tensor tensor;
  Logits logits;
};

// Logits in any of the shapes that the operators accept, or a copy that this library's kernels can read; each library
// defines it.
LogitsView logits_of(const Tensor& logits, const Tensor& x);

}  // namespace bam_fused
