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

// Calls step(k, row, block) for each square block of columns from k on, of rows from `row` on, transposed: a vector for
// each column, with zeros for what is not there.
template <class A, class T, class Step>
inline void pack_transposed_blocks(
    int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns, Step&& step) {
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
      step(k, row, block);
    }
  }
}

// Column k of what is read becomes row k, in the compute type and with zeros up to `to_stride`, whole vectors, behind
// it.
template <class T, class A = Compute<T>>
inline void pack_transposed(
    A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns) {
  pack_transposed_blocks<A>(to_stride, from, from_stride, rows, columns, [&](int64_t k, int64_t row, Vec<A>* block) {
    for (int64_t i = 0; i < kLanes<A> && k + i < columns; ++i) store(to + (k + i) * to_stride + row, block[i]);
  });
}

// The same as factors, of sums that run down, along or (before it is transposed) along what is read. Where a factor is
// a pair of numbers, these lie there in two rows or columns next to each other.
template <class T, class A = Compute<T>>
inline void pack_down(A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns) {
  pack_rows(to, to_stride, from, from_stride, rows, columns);
}

template <class T, class A = Compute<T>>
inline void pack_along(A* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns) {
  pack_rows(to, to_stride, from, from_stride, rows, columns);
}

#if defined(__AVX512BF16__)
// 16 or 32 numbers, zeros where there are fewer.
inline Vec<float> load_some(const float* p, int64_t count) {
  return count >= kLanes<float> ? load(p) : load(p, Short{count});
}
inline __m512i load_some(const BFloat16* p, int64_t count) {
  return count >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)((1u << count) - 1), p);
}

inline void pack_down(
    BFloat16Pair* to, int64_t to_stride, const float* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += 2, to += to_stride, from += 2 * from_stride) {
    for (int64_t k = 0; k < columns; k += kLanes<float>) {
      const Vec<float> second = row + 1 < rows ? load_some(from + from_stride + k, columns - k) : Vec<float>{};
      store(to + k, pairs_of(load_some(from + k, columns - k), second));
    }
  }
}

inline void pack_down(
    BFloat16Pair* to, int64_t to_stride, const BFloat16* from, int64_t from_stride, int64_t rows, int64_t columns) {
  constexpr int64_t lanes = kLanes<float>;
  typedef int16_t Halves __attribute__((vector_size(BAM_VECTOR_BYTES)));
  Halves lower;
  for (int i = 0; i < 2 * lanes; ++i) lower[i] = i / 2 + i % 2 * 2 * lanes;
  const Halves upper = lower + (int16_t)lanes;
  for (int64_t row = 0; row < rows; row += 2, to += to_stride, from += 2 * from_stride) {
    for (int64_t k = 0; k < columns; k += 2 * lanes) {
      const __m512i first = load_some(from + k, columns - k),
                    second = row + 1 < rows ? load_some(from + from_stride + k, columns - k) : __m512i{};
      store(to + k, (WordBits)_mm512_permutex2var_epi16(first, (__m512i)lower, second));
      if (columns - k > lanes) {
        store(to + k + lanes, (WordBits)_mm512_permutex2var_epi16(first, (__m512i)upper, second));
      }
    }
  }
}

inline void pack_along(
    BFloat16Pair* to, int64_t to_stride, const float* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, to += to_stride, from += from_stride) {
    for (int64_t k = 0; k < columns; k += kLanes<float>) store((BFloat16*)to + k, load_some(from + k, columns - k));
  }
}

inline void pack_along(
    BFloat16Pair* to, int64_t to_stride, const BFloat16* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, to += to_stride, from += from_stride) {
    for (int64_t k = 0; k < columns; k += 32) store(to + k / 2, (WordBits)load_some(from + k, columns - k));
  }
}

inline void pack_transposed(
    BFloat16Pair* to, int64_t to_stride, const float* from, int64_t from_stride, int64_t rows, int64_t columns) {
  pack_transposed_blocks<float>(
      to_stride, from, from_stride, rows, columns, [&](int64_t k, int64_t row, const Vec<float>* block) {
        for (int64_t i = 0; i < kLanes<float> && k + i < columns; i += 2) {
          store(to + (k + i) / 2 * to_stride + row, pairs_of(block[i], block[i + 1]));
        }
      });
}
#endif

}  // namespace
}  // namespace bam_fused::cpu
