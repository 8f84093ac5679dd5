// The sums over chunks of rows that a norm and its gradient take. A chunk's are short, so that they round little, and
// are added up in float64 by whoever called: which threads took which chunks does not show.
#pragma once

#include "columns.h"
#include "norm.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

struct Chunk {
  int64_t index, sample, row, rows;
};

// body(chunk, the chunk's first number in each of `maps`).
template <class A, class Body, class... Maps>
inline void for_chunks(const NormRows& shape, int64_t begin, int64_t end, Body&& body, const Maps&... maps) {
  for (int64_t index = begin; index < end; ++index) {
    const int64_t sample = index / shape.chunks, row = index % shape.chunks * shape.chunk_rows;
    const int64_t left = shape.rows - row;
    const Chunk chunk{index, sample, row, left < shape.chunk_rows ? left : shape.chunk_rows};
    body(chunk, (A*)maps.at(sample) + row * shape.stride...);
  }
}

// The sums over rows of the `count` vectors that step(row, sums) adds, in four runs side by side.
template <class A, int count, class Step> struct RowSums {
  Vec<A> sum[count];

  RowSums(int64_t rows, Step&& step) {
    constexpr int runs = 4;
    Vec<A> run[runs][count] = {};
    int64_t row = 0;
    for (; row + runs <= rows; row += runs) {
      for (int i = 0; i < runs; ++i) step(row + i, run[i]);
    }
    for (; row < rows; ++row) step(row, run[0]);
    for (int i = 0; i < count; ++i) sum[i] = (run[0][i] + run[1][i]) + (run[2][i] + run[3][i]);
  }
};
template <class A, int count, class Step> inline RowSums<A, count, Step> sum_rows(int64_t rows, Step&& step) {
  return {rows, static_cast<Step&&>(step)};
}

template <class A> void norm_statistics(const NormStatisticsArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride, columns = a.shape.columns;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in) {
        A* means = (A*)a.partials + chunk.index * 2 * columns;
        for_columns<A>(columns, [&](int64_t k, auto part) {
          const Vec<A> first = load(in + k, part);  // about it, so that the mean of equal numbers is exact
          const auto total = sum_rows<A, 1>(
              chunk.rows, [&](int64_t row, Vec<A>* sums) { sums[0] += load(in + row * stride + k, part) - first; });
          const Vec<A> mean = first + total.sum[0] / A(chunk.rows);
          const auto squares = sum_rows<A, 1>(chunk.rows, [&](int64_t row, Vec<A>* sums) {
            const Vec<A> distance = load(in + row * stride + k, part) - mean;
            sums[0] += distance * distance;
          });
          store(means + k, mean, part);
          store(means + columns + k, squares.sum[0], part);
        });
      },
      a.in);
}

template <class A> struct FinishAt {
  Vec<A> scale, shift;
};
template <class A, class Part> inline FinishAt<A> finish_at(const Finish& finish, int64_t k, Part part) {
  return {load((const A*)finish.scale + k, part), load((const A*)finish.shift + k, part)};
}

// The gradient in front of a ReLU that came from this input: 0 where it was cut off.
template <class A> inline Vec<A> behind_relu(Vec<A> grad, Vec<A> in, const FinishAt<A>& at, bool relu) {
  return relu ? keep<A>(~(in * at.scale + at.shift <= A(0)), grad) : grad;
}

template <class A> void norm_grad_sums(const NormGradSumsArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride, columns = a.shape.columns;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in, const A* grad) {
        A* partials = (A*)a.partials + chunk.index * 2 * columns;
        for_columns<A>(columns, [&](int64_t k, auto part) {
          const FinishAt<A> at = finish_at<A>(a.finish, k, part);
          const Vec<A> mean = load((const A*)a.mean + k, part);
          const auto sums = sum_rows<A, 2>(chunk.rows, [&](int64_t row, Vec<A>* sums) {
            const Vec<A> v = load(in + row * stride + k, part);
            const Vec<A> d = behind_relu<A>(load(grad + row * stride + k, part), v, at, a.finish.relu);
            sums[0] += d;
            sums[1] += d * (v - mean);
          });
          store(partials + k, sums.sum[0], part);
          store(partials + columns + k, sums.sum[1], part);
        });
      },
      a.in, a.grad);
}

// The sums over rows `begin` to `end` of a sample, whole chunks, where they are wanted; for who has just written these
// rows.
template <class Sums>
inline void take_sums(
    const Sums& a, int64_t sample, int64_t begin, int64_t end, void (*take)(const Sums&, int64_t, int64_t)) {
  if (!a.partials) return;
  const int64_t chunks = sample * a.shape.chunks, rows = a.shape.chunk_rows;
  take(a, chunks + begin / rows, chunks + (end + rows - 1) / rows);
}

}  // namespace
}  // namespace bam_fused::cpu
