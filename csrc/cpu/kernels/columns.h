// Walking a row of columns by whole vectors, and what is left at its end.
//
// A tail shorter than a vector is taken together with columns already done: the last vector starts earlier and
// overlaps. Writing a result twice is harmless; sums keep only the lanes that are new. A row shorter than one vector
// goes through a zero-padded copy instead.
#pragma once

#include "simd.h"

namespace bam_fused::cpu {
namespace {

struct Whole {};  // a vector inside the row
struct Overlap {
  int64_t done;
};  // the last vector; its first `done` lanes have been taken already
struct Short {
  int64_t count;
};  // the only vector, of which `count` lanes exist

template <class T> inline Vec<Compute<T>> load(const T* p, Whole) { return load(p); }
template <class T> inline Vec<Compute<T>> load(const T* p, Overlap) { return load(p); }
template <class T> inline Vec<Compute<T>> load(const T* p, Short part) {
  T padded[kLanes<Compute<T>>] = {};
  memcpy(padded, p, part.count * sizeof(T));
  return load(padded);
}

#if defined(__AVX512F__)
inline Vec<float> load(const float* p, Short part) {
  return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << part.count) - 1), p);
}
inline __m256i load_halves(const void* p, Short part) {
  return _mm256_maskz_loadu_epi16((__mmask16)((1u << part.count) - 1), p);
}
inline Vec<float> load(const BFloat16* p, Short part) {
  return bit_cast<Vec<float>>(widen((HalfBits)load_halves(p, part)) << 16);
}
inline Vec<float> load(const Float16* p, Short part) { return (Vec<float>)_mm512_cvtph_ps(load_halves(p, part)); }
#endif

template <class T> inline void store(T* p, Vec<Compute<T>> v, Whole) { store(p, v); }
template <class T> inline void store(T* p, Vec<Compute<T>> v, Overlap) { store(p, v); }
template <class T> inline void store(T* p, Vec<Compute<T>> v, Short part) {
  T padded[kLanes<Compute<T>>];
  store(padded, v);
  memcpy(p, padded, part.count * sizeof(T));
}
#if defined(__AVX512F__)
inline void store(float* p, Vec<float> v, Short part) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << part.count) - 1), (__m512)v);
}
#endif

// The lanes that exist.
template <class A> inline int64_t count_of(Whole) { return kLanes<A>; }
template <class A> inline int64_t count_of(Overlap) { return kLanes<A>; }
template <class A> inline int64_t count_of(Short part) { return part.count; }

// The lanes that count once in a sum.
template <class A> inline Vec<A> only_new(Vec<A> v, Whole) { return v; }
template <class A> inline Vec<A> only_new(Vec<A> v, Overlap part) { return keep<A>(lanes_from<A>(part.done), v); }
template <class A> inline Vec<A> only_new(Vec<A> v, Short part) { return keep<A>(~lanes_from<A>(part.count), v); }

// Calls step(column, Whole | Overlap | Short) until every column of the row is covered.
template <class A, class Step> inline void for_columns(int64_t columns, Step&& step) {
  constexpr int64_t lanes = kLanes<A>;
  int64_t k = 0;
  for (; k + lanes <= columns; k += lanes) step(k, Whole{});
  if (k == columns) return;
  if (columns >= lanes) {
    step(columns - lanes, Overlap{lanes - (columns - k)});
  } else {
    step(int64_t{0}, Short{columns});
  }
}

// The sum over the row of the vectors that step returns. Two levels of sums keep the rounding error near that of a
// pairwise sum: the long run of additions is cut into blocks, about as many as one has vectors.
template <class A, class Step> inline A sum_columns(int64_t columns, Step&& step) {
  const int64_t block = (columns < 64 * kLanes<A> ? 6 : 16) * kLanes<A>;
  Vec<A> total{};
  for (int64_t begin = 0, end; begin < columns; begin = end) {
    end = columns - begin < 2 * block ? columns : begin + block;  // never a last block shorter than a vector
    Vec<A> sum{};
    for_columns<A>(end - begin, [&](int64_t k, auto part) { sum += step(begin + k, part); });
    total += sum;
  }
  return sum_lanes<A>(total);
}

// The row's last columns from k on, less than a vector of them, and zeros.
template <class T, class A = Compute<T>> inline Vec<A> load_rest(const T* row, int64_t k, int64_t columns) {
#if defined(__AVX512F__)
  constexpr bool by_mask = sizeof(A) == 4;
#else
  constexpr bool by_mask = false;
#endif
  if (!by_mask && columns >= kLanes<A>) {
    const Overlap last{kLanes<A> - (columns - k)};
    return only_new<A>(load(row + columns - kLanes<A>, last), last);
  }
  return load(row + k, Short{columns - k});
}

// The sum over the row, up to that over the lanes: several sums at a time, as one alone would wait for each addition,
// and for long rows in blocks, which round less.
template <class T, class A = Compute<T>> inline Vec<A> sum_vectors(const T* row, int64_t columns) {
  constexpr int at_once = 4;
  constexpr int64_t step = at_once * kLanes<A>, block = 16 * step;
  Vec<A> total{};
  int64_t k = 0;
  for (int64_t end; k + step <= columns; k = end) {
    end = columns - k < 2 * block ? k + (columns - k) / step * step : k + block;
    Vec<A> sums[at_once];
    for_each<at_once>([&](int i) { sums[i] = load(row + k + i * kLanes<A>); });
    for (int64_t at = k + step; at < end; at += step) {
      for_each<at_once>([&](int i) { sums[i] += load(row + at + i * kLanes<A>); });
    }
    total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  Vec<A> rest{};
  for (; k + kLanes<A> <= columns; k += kLanes<A>) rest += load(row + k);
  if (k < columns) rest += load_rest(row, k, columns);
  return total + rest;
}

}  // namespace
}  // namespace bam_fused::cpu
