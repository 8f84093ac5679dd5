// Small matrices copied into a tile's own memory, where the products read them again and again.
#pragma once

#include "columns.h"

namespace bam_fused::cpu {
namespace {

// The distance between the rows of a packed matrix: an odd number of cache lines, so that what lies below each other does not
// fall into one set of the cache.
template <class A> constexpr int64_t packed_stride(int64_t columns) {
  constexpr int64_t line = 64 / (int64_t)sizeof(A);
  return ((columns + line - 1) / line | 1) * line;
}

// Rows of adjacent columns, in the compute type and with zeros up to a whole vector behind each.
template <class T, class A = Compute<T>>
inline void pack_rows(A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, to += to_stride, from += from_stride) {
    int64_t k = 0;
    for (; k + kLanes<A> <= columns; k += kLanes<A>) store(to + k, load(from + k));
    if (k < columns) store(to + k, load(from + k, Short{columns - k}));
  }
}

// Column k of what is read becomes row k, with zeros up to `to_stride` behind it.
template <class A>
inline void pack_transposed(
    A* to, int64_t to_stride, const A* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t k = 0; k < columns; ++k, to += to_stride) {
    for (int64_t row = 0; row < rows; ++row) to[row] = from[row * from_stride + k];
    for (int64_t row = rows; row < to_stride; ++row) to[row] = 0;
  }
}

}  // namespace
}  // namespace bam_fused::cpu
