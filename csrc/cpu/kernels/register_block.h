// The products behind squeeze and the dilated convolution: a block of sums that stays in registers while both factors
// stream by.
#pragma once

#include "layer.h"
#include "simd.h"

namespace bam_fused::cpu {
namespace {

// Bias and norm as one scale and shift per output, then ReLU; NaN stays NaN.
template <class A> inline Vec<A> finished(Vec<A> sum, Vec<A> scale, Vec<A> shift, bool relu) {
  const Vec<A> v = sum * scale + shift;
  return relu ? (v < A(0) ? Vec<A>{} : v) : v;
}

template <class A> inline Vec<A> finished(Vec<A> sum, const Finish& finish, int64_t output) {
  return finished<A>(sum, load((const A*)finish.scale + output), load((const A*)finish.shift + output), finish.relu);
}

// What is read of a layer's input, which may have a finish of its own to go through.
template <class A> inline Vec<A> finished_input(Vec<A> input, const Finish& finish, int64_t k) {
  return finish.scale ? finished<A>(input, finish, k) : input;
}

// As many sums as leave registers for one row of `right` and one number of `left`, in rows of at most two vectors.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kBlockSums = 24;
#else
constexpr int kBlockSums = 12;
#endif
constexpr int kBlockVectors = 2;
constexpr int kMostBlockRows = 12;
template <int vectors> constexpr int kBlockRows =
    kBlockSums / vectors < kMostBlockRows ? kBlockSums / vectors : kMostBlockRows;

// sum[row][vector], `vectors` adjacent vectors of each row. The functions that hold one are kept out of line: there it
// lies in registers, where inlined into several loops GCC leaves part of it in memory.
template <class A, int rows, int vectors> struct Block {
  Vec<A> sum[rows][vectors];

  template <class Step> static inline __attribute__((always_inline)) void each(Step&& step) {
#pragma GCC unroll 12
    for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) step(m, v);
    }
  }

  template <class Step> static inline __attribute__((always_inline)) void each_row(Step&& step) {
#pragma GCC unroll 12
    for (int m = 0; m < rows; ++m) step(m);
  }

  inline __attribute__((always_inline)) void clear() {
    each([&](int m, int v) __attribute__((always_inline)) { sum[m][v] = Vec<A>{}; });
  }
  inline __attribute__((always_inline)) void add(const A* from, int64_t row_stride) {
    each([&](int m, int v)
             __attribute__((always_inline)) { sum[m][v] += load(from + m * row_stride + v * kLanes<A>); });
  }
  inline __attribute__((always_inline)) void finish(const Finish& finish, int64_t output) {
    each([&](int m, int v)
             __attribute__((always_inline)) { sum[m][v] = finished<A>(sum[m][v], finish, output + v * kLanes<A>); });
  }
  template <class T> inline __attribute__((always_inline)) void store_to(T* to, int64_t row_stride) const {
    each([&](int m, int v) __attribute__((always_inline)) { store(to + m * row_stride + v * kLanes<A>, sum[m][v]); });
  }

  // sum[m] += left[m, k] * right[k], for k from 0 to depth: left's factors one by one, right's by vectors.
  template <class F> inline __attribute__((always_inline)) void add_products(
      const F* left, int64_t left_row_stride, int64_t left_step, const F* right, int64_t right_row_stride,
      int64_t depth) {
    for (int64_t k = 0; k < depth; ++k) {
      Vec<F> r[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) r[v] = load(right + v * kLanes<A>);
#pragma GCC unroll 12
      for (int m = 0; m < rows; ++m) {
        const Vec<F> l = splat(left[m * left_row_stride]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[m][v] = multiply_add(sum[m][v], l, r[v]);
      }
      left += left_step;
      right += right_row_stride;
    }
  }
};

template <int n> struct Constant {
  static constexpr int value = n;
};

// body(Constant<n>), for n from 1 to most.
template <int most, class Body> inline void with_constant(int64_t n, Body&& body) {
  if constexpr (most > 0) {
    if (n == most) return body(Constant<most>{});
    with_constant<most - 1>(n, body);
  }
}

// step(begin, size, blocks) over [0, count) in the fewest blocks of at most `most`, of sizes as even as can be:
// `blocks` of one size follow each other from `begin` on.
template <class Step> inline void for_even_runs(int64_t count, int64_t most, Step&& step) {
  if (count == 0) return;
  const int64_t blocks = (count + most - 1) / most, size = count / blocks, larger = count % blocks;
  if (larger > 0) step(0, size + 1, larger);
  step(larger * (size + 1), size, blocks - larger);
}

// step(begin, size) for each of these blocks.
template <class Step> inline void for_even_blocks(int64_t count, int64_t most, Step&& step) {
  for_even_runs(count, most, [&](int64_t begin, int64_t size, int64_t blocks) {
    for (int64_t b = 0; b < blocks; ++b) step(begin + b * size, size);
  });
}

// step(first vector, Constant<1 or 2>) over the vectors that hold `length` numbers.
template <class A, class Step> inline void for_vector_pairs(int64_t length, Step&& step) {
  const int64_t vectors = (length + kLanes<A> - 1) / kLanes<A>;
  int64_t v = 0;
  for (; v + 2 <= vectors; v += 2) step(v * kLanes<A>, Constant<2>{});
  if (v < vectors) step(v * kLanes<A>, Constant<1>{});
}

// `length` rounded up to whole vectors.
template <class A> inline int64_t padded(int64_t length) { return (length + kLanes<A> - 1) / kLanes<A> * kLanes<A>; }

}  // namespace
}  // namespace bam_fused::cpu
