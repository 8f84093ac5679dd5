// The gate of a row and a vector of columns, from the logits of a tile.
//
// For "sum" the exponential separates: sigmoid(a + b) = 1 / (1 + exp(-a) exp(-b)), one exponential per row and per
// column instead of one per element; for "max" so does the sigmoid itself, which is monotonic; for "product" nothing
// does, but its exponential needs no care. Where a logit of the tile is beyond the range in which that is exact and
// free of overflow, or not a number, the tile takes the direct path.
#pragma once

#include "columns.h"
#include "tiling.h"
#include "../../shared/combine.h"

namespace bam_fused::cpu {
namespace {

// Whether exp(-a) exp(-b), or under "product" exp(-a b), is a normal number for logits up to these magnitudes.
template <Combine combine, class A> inline bool inside_range(A row, A column) {
  if constexpr (combine == Combine::product) return row * column <= ExpRange<A>::largest;
  constexpr A largest = sizeof(A) == sizeof(float) ? A(40) : A(350);
  return row <= largest && column <= largest;
}

template <class A> constexpr int64_t kMaxTileColumns = kMaxTileColumnBytes / (int64_t)sizeof(A);

// One side's logits, padded with zeros to whole vectors, and what each contributes where all are inside the range:
// exp(-logit) under "sum", sigmoid(logit) and its slope under "max".
template <class A, int64_t size> struct Side {
  A logit[size + kLanes<A>];
  A term[size + kLanes<A>];
  A slope[size + kLanes<A>];

  // Loads `count` logits; their largest magnitude, NaN if one is none. As integers a NaN is larger than every number.
  A load_logits(const A* from, int64_t count) {
    memcpy(logit, from, count * sizeof(A));
    memset(logit + count, 0, kLanes<A> * sizeof(A));
    Bits<A> largest{};
    for (int64_t k = 0; k < count; k += kLanes<A>) {
      const Vec<A> v = load(logit + k);
      const Bits<A> magnitude = bit_cast<Bits<A>>(v) & ~bit_cast<Bits<A>>(splat(A(-0.0)));
      largest = magnitude > largest ? magnitude : largest;
    }
    auto most = largest[0];
    for (int i = 1; i < kLanes<A>; ++i) most = largest[i] > most ? largest[i] : most;
    return bit_cast<A>(most);
  }

  template <Combine combine, bool slopes> void separate(int64_t count) {
    if constexpr (combine == Combine::product) return;
    for (int64_t k = 0; k < count; k += kLanes<A>) {
      const Vec<A> v = load(logit + k);
      if constexpr (combine == Combine::max) {
        store(term + k, sigmoid<A>(v).value);
        if constexpr (slopes) {
          const Vec<A> smaller = sigmoid<A>(v > A(0) ? -v : v).value;  // of s and 1 - s: their product rounds the least
          store(slope + k, smaller * (A(1) - smaller));
        }
      } else {
        store(term + k, exp_in_range(-v));
      }
    }
  }
};

template <class A> struct TileLogits {
  Side<A, kMaxTileRows> row;
  Side<A, kMaxTileColumns<A>> column;
};

template <class A> inline Vec<A> maximum(Vec<A> a, Vec<A> b) {  // NaN if either is, as torch.maximum
  const Vec<A> larger = a > b ? a : b;
  return a == a ? larger : a;
}

// From e = exp(-z) in range.
template <class T, class A = Compute<T>> inline Sigmoid<A> sigmoid_of(Vec<A> e) {
  const Vec<A> s = reciprocal<T>(A(1) + e);
  return {s, s * (e * s)};
}

// The gate of row `row` and the vector of columns from `k` on. An unused slope costs nothing: it is inlined and
// dropped.
template <class T, Combine combine, bool inside, class A = Compute<T>>
inline Sigmoid<A> gate_at(const TileLogits<A>& logits, int64_t row, int64_t k) {
  if constexpr (inside && combine == Combine::max) {
    const Vec<A> column = load(logits.column.term + k), same = splat(logits.row.term[row]);
    const Bits<A> row_wins = splat(logits.row.logit[row]) > load(logits.column.logit + k);
    const Vec<A> slope = row_wins ? splat(logits.row.slope[row]) : load(logits.column.slope + k);
    return {same > column ? same : column, slope};
  }
  if constexpr (inside && combine == Combine::sum) {
    return sigmoid_of<T>(splat(logits.row.term[row]) * load(logits.column.term + k));
  }
  const Vec<A> column = load(logits.column.logit + k), same = splat(logits.row.logit[row]);
  if constexpr (combine == Combine::sum) return sigmoid<T>(same + column);
  if constexpr (inside) return sigmoid_of<T>(exp_in_range(-(same * column)));
  if constexpr (combine == Combine::product) return sigmoid<T>(same * column);
  return sigmoid<T>(maximum<A>(same, column));
}

}  // namespace
}  // namespace bam_fused::cpu
