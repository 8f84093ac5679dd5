// A norm and a ReLU behind a layer, chunk by chunk of rows. A chunk's sums are short, so that they round little, and are added
// up in float64 by whoever called: which threads took which chunks does not show.
#include "norm.h"

#include "columns.h"
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
          const auto total = sum_rows<A, 1>(
              chunk.rows, [&](int64_t row, Vec<A>* sums) { sums[0] += load(in + row * stride + k, part); });
          const Vec<A> mean = total.sum[0] / A(chunk.rows);
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

template <class A> void norm(const NormArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in, A* out) {
        for_columns<A>(a.shape.columns, [&](int64_t k, auto part) {
          const FinishAt<A> at = finish_at<A>(a.finish, k, part);
          for (int64_t row = 0; row < chunk.rows; ++row) {
            const Vec<A> v = load(in + row * stride + k, part);
            store(out + row * stride + k, finished<A>(v, at.scale, at.shift, a.finish.relu), part);
          }
        });
      },
      a.in, a.out);
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

template <class A> void norm_grad(const NormGradArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in, const A* grad, A* out) {
        for_columns<A>(a.shape.columns, [&](int64_t k, auto part) {
          const FinishAt<A> at = finish_at<A>(a.finish, k, part);
          const Vec<A> mean = load((const A*)a.mean + k, part), offset = load((const A*)a.offset + k, part),
                       slope = load((const A*)a.slope + k, part);
          for (int64_t row = 0; row < chunk.rows; ++row) {
            const Vec<A> v = load(in + row * stride + k, part);
            const Vec<A> d = behind_relu<A>(load(grad + row * stride + k, part), v, at, a.finish.relu);
            store(out + row * stride + k, at.scale * (d - offset - slope * (v - mean)), part);
          }
        });
      },
      a.in, a.grad, a.out);
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(NormStatisticsArguments, norm_statistics)
BAM_KERNEL_OF_COMPUTE_TYPE(NormArguments, norm)
BAM_KERNEL_OF_COMPUTE_TYPE(NormGradSumsArguments, norm_grad_sums)
BAM_KERNEL_OF_COMPUTE_TYPE(NormGradArguments, norm_grad)

}  // namespace bam_fused::cpu
