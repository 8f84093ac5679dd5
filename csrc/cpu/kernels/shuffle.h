// Vectors whose lanes change places: sums over the lanes of several at a time, small matrices transposed.
#pragma once

#include "simd.h"

namespace bam_fused::cpu {
namespace {

#if !defined(__clang__)  // whose shuffles take nothing but literals; there the loops below do the same
// Lanes of a, then of b, by their numbers.
template <class A> inline Vec<A> pick(Vec<A> a, Vec<A> b, Bits<A> lanes) { return __builtin_shuffle(a, b, lanes); }

template <class A> inline Bits<A> even_lanes() {
  Bits<A> lanes;
  for (int i = 0; i < kLanes<A>; ++i) lanes[i] = 2 * i;
  return lanes;
}

// a0 b0 a1 b1 ..., as far as one vector goes.
template <class A> inline Bits<A> interleaved_lanes() {
  Bits<A> lanes;
  for (int i = 0; i < kLanes<A>; ++i) lanes[i] = i / 2 + i % 2 * kLanes<A>;
  return lanes;
}
#endif

// The sums of the lanes of each of these vectors, of which as many are left as fill one; what was in v is lost.
template <class A> inline Vec<A> sum_each(Vec<A> (&v)[kLanes<A>]) {
#if defined(__clang__)
  Vec<A> sums;
  for (int i = 0; i < kLanes<A>; ++i) sums[i] = sum_lanes<A>(v[i]);
  return sums;
#else
  const Bits<A> even = even_lanes<A>();
#pragma GCC unroll 4
  for (int count = kLanes<A> / 2; count > 0; count /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
      v[i] = pick<A>(v[2 * i], v[2 * i + 1], even) + pick<A>(v[2 * i], v[2 * i + 1], even + 1);
    }
  }
  return v[0];
#endif
}

// Lane j of vector i and lane i of vector j change places.
template <class A> inline void transpose(Vec<A> (&v)[kLanes<A>]) {
  constexpr int lanes = kLanes<A>;
  Vec<A> w[lanes];
#if defined(__clang__)
  for (int i = 0; i < lanes; ++i) {
    for (int j = 0; j < lanes; ++j) w[i][j] = v[j][i];
  }
  for (int i = 0; i < lanes; ++i) v[i] = w[i];
#else
  const Bits<A> lower = interleaved_lanes<A>();
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      w[2 * i] = pick<A>(v[i], v[i + lanes / 2], lower);
      w[2 * i + 1] = pick<A>(v[i], v[i + lanes / 2], lower + lanes / 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) v[i] = w[i];
  }
#endif
}

}  // namespace
}  // namespace bam_fused::cpu
