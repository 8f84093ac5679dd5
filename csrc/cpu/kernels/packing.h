// Small matrices copied into a tile's own memory, where the products read them again and again.
#pragma once

#include "columns.h"
#include "shuffle.h"

namespace bam_fused::cpu {
namespace {

// The distance between the rows of a packed matrix: an odd number of cache lines, so that what lies below each other
// does not fall into one set of the cache.
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

// Rows of adjacent columns as factors, which hold numbers below each other where the sums run down, or else side by
// side; with zeros up to a whole vector behind each.
template <class T, class A = Compute<T>>
inline void pack_factors(
    A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns, bool) {
  pack_rows(to, to_stride, from, from_stride, rows, columns);
}

#if defined(__AVX512BF16__)
inline __m512i load_halves(const BFloat16* p, int64_t count) {
  return count >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)((1u << count) - 1), p);
}

inline void pack_factors(
    BFloat16Pair* to, int64_t to_stride, const BFloat16* from, int64_t from_stride, int64_t rows, int64_t columns,
    bool down) {
  constexpr int64_t lanes = kLanes<float>;
  if (!down) {
    for (int64_t row = 0; row < rows; ++row, to += to_stride, from += from_stride) {
      for (int64_t k = 0; k < columns; k += 2 * lanes) store(to + k / 2, (WordBits)load_halves(from + k, columns - k));
    }
    return;
  }
  typedef int16_t Halves __attribute__((vector_size(BAM_VECTOR_BYTES)));
  Halves lower;
  for (int i = 0; i < 2 * lanes; ++i) lower[i] = i / 2 + i % 2 * 2 * lanes;
  const Halves upper = lower + (int16_t)lanes;
  for (int64_t row = 0; row < rows; row += 2, to += to_stride, from += 2 * from_stride) {
    for (int64_t k = 0; k < columns; k += 2 * lanes) {
      const __m512i a = load_halves(from + k, columns - k),
                    b = row + 1 < rows ? load_halves(from + from_stride + k, columns - k) : __m512i{};
      store(to + k, (WordBits)_mm512_permutex2var_epi16(a, (__m512i)lower, b));
      if (columns - k > lanes) store(to + k + lanes, (WordBits)_mm512_permutex2var_epi16(a, (__m512i)upper, b));
    }
  }
}
#endif

// Column k of what is read becomes row k, in the compute type and with zeros up to `to_stride`, whole vectors, behind
// it.
template <class T, class A = Compute<T>>
inline void pack_transposed(
    A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns) {
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t row = 0; row < to_stride; row += lanes) {
    const int64_t count = rows - row;  // of rows that exist, where they are fewer than lanes
    for (int64_t k = 0; k < columns; k += lanes) {
      const T* at = from + row * from_stride + k;
      const int64_t left = columns - k;
      Vec<A> block[lanes] = {};
      for (int64_t i = 0; i < lanes && i < count; ++i, at += from_stride) {
        block[i] = left >= lanes ? load(at) : load(at, Short{left});
      }
      transpose<A>(block);
      for (int64_t i = 0; i < lanes && i < left; ++i) store(to + (k + i) * to_stride + row, block[i]);
    }
  }
}

}  // namespace
}  // namespace bam_fused::cpu
