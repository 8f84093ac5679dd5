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

// Memory for the sums of all chunks.
void* partials(const NormedRows& rows, Workspace& space) {
  return space.take(rows.samples * rows.shape.chunks * 2 * rows.shape.columns);
}

// add(rows of the chunk, column, its first sum, its second) for each chunk's sums, [2, columns].
template <class A, class Add>
void for_partials(const NormedRows& rows, const void* partials, Add add) {
  const NormRows& shape = rows.shape;
  const A* at = static_cast<const A*>(partials);
  for (int64_t chunk = 0; chunk < rows.samples * shape.chunks; ++chunk, at += 2 * shape.columns) {
    const int64_t left = shape.rows - chunk % shape.chunks * shape.chunk_rows;
    const double count = static_cast<double>(std::min(shape.chunk_rows, left));
    for (int64_t k = 0; k < rows.columns(); ++k) {
      add(count, k, static_cast<double>(at[k]), static_cast<double>(at[shape.columns + k]));
    }
  }
}

// The sums of columns as those of channels.
std::vector<double> by_channel(const NormedRows& rows, std::vector<double> columns) {
  for (size_t k = 1; k < columns.size() && rows.folded; ++k) columns[0] += columns[k];
  columns.resize(static_cast<size_t>(rows.channels));
  return columns;
}

std::vector<double> by_column(const NormedRows& rows, std::vector<double> channels) {
  channels.resize(static_cast<size_t>(rows.columns()), channels[0]);
  return channels;
}

std::vector<double> zeros(int64_t count) { return std::vector<double>(static_cast<size_t>(count)); }

}  // namespace

NormedRows normed_rows(int64_t samples, int64_t rows, int64_t channels, int64_t columns, int64_t chunk_rows) {
  return {samples, channels, {rows, columns, columns, chunk_rows, (rows + chunk_rows - 1) / chunk_rows}};
}

NormedRows folded_rows(int64_t values) {
  int64_t folds = kMostFolds;
  while (values % folds != 0) folds /= 2;
  NormedRows rows = normed_rows(1, values / folds, 1, folds);
  rows.folded = true;
  return rows;
}

NormStatisticsArguments statistics_sums(const NormedRows& rows, const PerSample& in, Workspace& space) {
  return {rows.shape, in, partials(rows, space)};
}

Statistics batch_statistics(const Tensor& like, const NormedRows& rows, const NormStatisticsArguments& taken) {
  std::vector<double> sums = zeros(rows.columns()), squares = zeros(rows.columns());
  Statistics all;
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    for_partials<A>(
        rows, taken.partials, [&](double count, int64_t k, double mean, double) { sums[k] += mean * count; });
    all.mean = by_channel(rows, std::move(sums));
    for (double& mean : all.mean) mean /= static_cast<double>(rows.values());
    const std::vector<double> means = by_column(rows, all.mean);
    for_partials<A>(rows, taken.partials, [&](double count, int64_t k, double mean, double square) {
      const double distance = mean - means[k];
      squares[k] += square + distance * distance * count;
    });
  });
  all.squares = by_channel(rows, std::move(squares));
  return all;
}

void set_vectors(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const Statistics& statistics,
    const NormVectors& vectors) {
  const auto numbers = [&](const std::optional<Tensor>& t, double otherwise) {
    return by_column(rows, numbers_of(t, rows.channels, otherwise));
  };
  const std::vector<double> gain = numbers(layer.gain, 1.0), offset = numbers(layer.offset, 0.0);
  std::vector<double> mean = layer.batch ? by_column(rows, statistics.mean) : numbers(layer.mean, 0.0),
                      variance = layer.batch ? by_column(rows, statistics.squares) : numbers(layer.variance, 1.0);
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    for (size_t k = 0; k < mean.size(); ++k) {
      const double v = layer.batch ? variance[k] / static_cast<double>(rows.values()) : variance[k];
      const double inverse = layer.normalises() ? 1 / std::sqrt(v + layer.eps) : 1.0;
      const double scale = gain[k] * inverse;
      static_cast<A*>(vectors.mean())[k] = static_cast<A>(mean[k]);
      static_cast<A*>(vectors.inverse_deviation())[k] = static_cast<A>(inverse);
      static_cast<A*>(vectors.scale())[k] = static_cast<A>(scale);
      static_cast<A*>(vectors.shift())[k] = static_cast<A>(offset[k] - mean[k] * scale);
    }
  });
}

void normalise(
    const Tensor& like, const NormedRows& rows, const Finish& finish, const PerSample& in, const PerSample& out) {
  take(like, rows, NormArguments{rows.shape, finish, in, out});
}

NormGradSumsArguments grad_sums(
    const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors, const PerSample& in,
    const PerSample& grad, Workspace& space) {
  return {rows.shape, vectors.finish(layer), vectors.mean(), in, grad, partials(rows, space)};
}

NormGrads norm_grads(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors,
    const NormGradSumsArguments& taken) {
  std::vector<double> sums = zeros(rows.columns()), products = zeros(rows.columns());
  NormGrads grads{{}, {}, zeros(rows.channels)};
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    for_partials<A>(rows, taken.partials, [&](double, int64_t k, double sum, double product) {
      sums[k] += sum;
      products[k] += product;
    });
    grads.offset = by_channel(rows, std::move(sums));
    grads.gain = by_channel(rows, std::move(products));
    for (size_t c = 0; c < grads.bias.size(); ++c) {
      grads.gain[c] *= static_cast<double>(static_cast<const A*>(vectors.inverse_deviation())[c]);
      // What a norm over the batch lets through sums up to nothing.
      if (!layer.batch)
        grads.bias[c] = grads.offset[c] * static_cast<double>(static_cast<const A*>(vectors.scale())[c]);
    }
  });
  return grads;
}

void norm_backward(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors,
    const NormGradSumsArguments& taken, const NormGrads& grads, const PerSample& out, Workspace& space) {
  std::vector<double> offset = zeros(rows.channels), slope = zeros(rows.channels);
  with_compute_type(like, [&](auto zero) {
    using A = decltype(zero);
    for (size_t c = 0; c < offset.size() && layer.batch; ++c) {
      offset[c] = grads.offset[c] / static_cast<double>(rows.values());
      slope[c] = grads.gain[c] * static_cast<double>(static_cast<const A*>(vectors.inverse_deviation())[c]) /
                 static_cast<double>(rows.values());
    }
  });
  const void* offsets = padded_numbers(like, by_column(rows, std::move(offset)), space);
  const void* slopes = padded_numbers(like, by_column(rows, std::move(slope)), space);
  take(
      like, rows, NormGradArguments{taken.shape, taken.finish, taken.mean, offsets, slopes, taken.in, taken.grad, out});
}

}  // namespace bam_fused::cpu
