#include "norms.h"

#include <algorithm>
#include <cmath>

#include "layers.h"

namespace bam_fused::cpu {
namespace {

template <class Body>
void with_compute_type(const Tensor& like, Body body) {
  compute_dtype(like) == ScalarType::Double ? body(double{}) : body(float{});
}

constexpr int64_t kChunkRows = 64;  // a sum of so many rounds little

int64_t tasks(const NormedRows& rows) { return rows.samples * rows.shape.chunks; }

template <class Arguments>
void run(const Tensor& like, const NormedRows& rows, const Arguments& arguments) {
  for_tiles(arguments, dtype_of(like), tasks(rows), rows.samples * rows.shape.rows * rows.shape.columns);
}

// The sums of both halves of partials [tasks, 2, columns], each times weight(task), by channel.
template <class A, class Add>
void for_partials(const NormedRows& rows, const Tensor& partials, Add add) {
  const A* numbers = static_cast<const A*>(partials.const_data_ptr());
  for (int64_t task = 0; task < tasks(rows); ++task) {
    for (int64_t k = 0; k < rows.shape.columns; ++k) {
      const A* at = numbers + task * 2 * rows.shape.columns + k;
      add(task, k % rows.channels, static_cast<double>(at[0]), static_cast<double>(at[rows.shape.columns]));
    }
  }
}

double chunk_rows(const NormedRows& rows, int64_t task) {
  const int64_t begin = task % rows.shape.chunks * rows.shape.chunk_rows;
  return static_cast<double>(std::min(rows.shape.chunk_rows, rows.shape.rows - begin));
}

}  // namespace

NormedRows normed_rows(int64_t samples, int64_t rows, int64_t channels, int64_t stride) {
  return {samples, channels, {rows, channels, stride, kChunkRows, (rows + kChunkRows - 1) / kChunkRows}};
}

NormedRows folded_rows(int64_t values) {
  int64_t folds = kMostFolds;
  while (values % folds != 0) folds /= 2;
  NormedRows rows = normed_rows(1, values / folds, folds, folds);
  rows.channels = 1;
  return rows;
}

Statistics batch_statistics(const Tensor& like, const NormedRows& rows, const PerSample& in) {
  const Tensor partials = workspace(like, {tasks(rows), 2, rows.shape.columns});
  run(like, rows, NormStatisticsArguments{rows.shape, in, partials.data_ptr()});
  const size_t channels = static_cast<size_t>(rows.channels);
  Statistics all{std::vector<double>(channels), std::vector<double>(channels)};
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    for_partials<A>(rows, partials, [&](int64_t task, int64_t c, double mean, double) {
      all.mean[c] += mean * chunk_rows(rows, task);
    });
    for (double& mean : all.mean) mean /= static_cast<double>(rows.values());
    for_partials<A>(rows, partials, [&](int64_t task, int64_t c, double mean, double squares) {
      const double distance = mean - all.mean[c];
      all.squares[c] += squares + distance * distance * chunk_rows(rows, task);
    });
  });
  return all;
}

void set_vectors(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const Statistics& statistics,
    const NormVectors& vectors) {
  const Tensor gain = padded_vector(like, layer.gain, rows.channels, 1.0),
               offset = padded_vector(like, layer.offset, rows.channels, 0.0),
               mean = padded_vector(like, layer.mean, rows.channels, 0.0),
               variance = padded_vector(like, layer.variance, rows.channels, 1.0);
  const double values = static_cast<double>(rows.values());
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    const auto number = [](const Tensor& t, int64_t c) {
      return static_cast<double>(static_cast<const A*>(t.const_data_ptr())[c]);
    };
    for (int64_t k = 0; k < rows.shape.columns; ++k) {
      const int64_t c = k % rows.channels;
      const double m = layer.batch ? statistics.mean[c] : number(mean, c);
      const double v = layer.batch ? statistics.squares[c] / values : number(variance, c);
      const double inverse = layer.normalises() ? 1 / std::sqrt(v + layer.eps) : 1.0;
      const double scale = number(gain, c) * inverse;
      static_cast<A*>(vectors.mean())[k] = static_cast<A>(m);
      static_cast<A*>(vectors.inverse_deviation())[k] = static_cast<A>(inverse);
      static_cast<A*>(vectors.scale())[k] = static_cast<A>(scale);
      static_cast<A*>(vectors.shift())[k] = static_cast<A>(number(offset, c) - m * scale);
    }
  });
}

void normalise(
    const Tensor& like, const NormedRows& rows, const NormVectors& vectors, bool relu, const PerSample& in,
    const PerSample& out) {
  run(like, rows, NormArguments{rows.shape, {vectors.scale(), vectors.shift(), relu}, in, out});
}

NormGrads norm_backward(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors, const PerSample& in,
    const PerSample& grad, const PerSample* out) {
  const Finish finish{vectors.scale(), vectors.shift(), layer.relu};
  const Tensor partials = workspace(like, {tasks(rows), 2, rows.shape.columns});
  run(like, rows, NormGradSumsArguments{rows.shape, finish, vectors.mean(), in, grad, partials.data_ptr()});
  const size_t channels = static_cast<size_t>(rows.channels);
  NormGrads sums{std::vector<double>(channels), std::vector<double>(channels), std::vector<double>(channels)};
  const Tensor means = workspace(like, {2, rows.shape.columns});  // of d, and its slope over the input
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    const A* inverse = static_cast<const A*>(vectors.inverse_deviation());
    for_partials<A>(rows, partials, [&](int64_t, int64_t c, double d, double product) {
      sums.offset[c] += d;
      sums.gain[c] += product * static_cast<double>(inverse[c]);
    });
    A* offset = static_cast<A*>(means.data_ptr());
    const double values = static_cast<double>(rows.values());
    for (int64_t k = 0; k < rows.shape.columns; ++k) {
      const int64_t c = k % rows.channels;
      offset[k] = layer.batch ? static_cast<A>(sums.offset[c] / values) : A(0);
      offset[rows.shape.columns + k] = layer.batch ? static_cast<A>(sums.gain[c] * inverse[c] / values) : A(0);
    }
    // What a norm over the batch lets through sums up to nothing.
    for (int64_t c = 0; c < rows.channels && !layer.batch; ++c) {
      sums.bias[c] = sums.offset[c] * static_cast<double>(static_cast<const A*>(vectors.scale())[c]);
    }
    if (out == nullptr) return;
    run(like, rows,
        NormGradArguments{rows.shape, finish, vectors.mean(), offset, offset + rows.shape.columns, in, grad, *out});
  });
  return sums;
}

}  // namespace bam_fused::cpu
