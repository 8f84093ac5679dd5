// A norm and a ReLU behind a layer: from its tensors, or the batch, to one scale and shift per channel, and the
// gradients.
#pragma once

#include <optional>
#include <vector>

#include "features.h"
#include "kernels/norm.h"

namespace bam_fused::cpu {

// What follows a layer.
struct NormLayer {
  std::optional<Tensor> mean, variance;  // of a norm in evaluation
  std::optional<Tensor> gain, offset;
  double eps;
  bool batch, relu;  // whether a norm takes the statistics of the batch; whether a ReLU comes last

  bool normalises() const { return batch || mean.has_value(); }
  bool follows() const { return normalises() || relu; }
};

// The rows of channels that it runs over. A single channel may be folded: a row of several columns, all of that
// channel.
struct NormedRows {
  int64_t samples, channels;
  NormRows shape;
  bool folded = false;

  int64_t values() const {  // of each channel
    return samples * shape.rows * (folded ? shape.columns : 1);
  }
  int64_t columns() const { return folded ? shape.columns : channels; }  // that are no padding
};
constexpr int64_t kChunkRows = 64;  // a sum of so many rounds little
NormedRows normed_rows(
    int64_t samples, int64_t rows, int64_t channels, int64_t columns, int64_t chunk_rows = kChunkRows);
NormedRows folded_rows(int64_t values);
constexpr int64_t kMostFolds = 64;

// Mean, inverse deviation, scale and shift of each column, zeros where it is padding.
struct NormVectors {
  char* memory = nullptr;
  int64_t bytes = 0;  // of each

  void* mean() const { return memory; }
  void* inverse_deviation() const { return memory + bytes; }
  void* scale() const { return memory + 2 * bytes; }
  void* shift() const { return memory + 3 * bytes; }
  Finish finish(const NormLayer& layer) const { return {scale(), shift(), layer.relu}; }
};

// Takes all of these sums; a kernel that has written what they are of may have done so itself.
template <class Sums>
void take(const Tensor& like, const NormedRows& rows, const Sums& sums) {
  const NormRows& shape = rows.shape;
  for_tiles(sums, dtype_of(like), rows.samples * shape.chunks, rows.samples * shape.rows * shape.columns);
}

// Of each channel in float64.
struct Statistics {
  std::vector<double> mean, squares;  // the sum of squares about the mean
};
NormStatisticsArguments statistics_sums(const NormedRows& rows, const PerSample& in, Workspace& space);
Statistics batch_statistics(const Tensor& like, const NormedRows& rows, const NormStatisticsArguments& taken);

// Fills the vectors; the statistics are asked for where the norm takes the batch's.
void set_vectors(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const Statistics& statistics,
    const NormVectors& vectors);

void normalise(
    const Tensor& like, const NormedRows& rows, const Finish& finish, const PerSample& in, const PerSample& out);

// Of each channel: the gradients of the norm's weight and bias, and of the bias of the layer before.
struct NormGrads {
  std::vector<double> offset, gain, bias;
};
NormGradSumsArguments grad_sums(
    const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors, const PerSample& in,
    const PerSample& grad, Workspace& space);
NormGrads norm_grads(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors,
    const NormGradSumsArguments& taken);

// Writes the gradient in front of the norm.
void norm_backward(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors,
    const NormGradSumsArguments& taken, const NormGrads& grads, const PerSample& out, Workspace& space);

}  // namespace bam_fused::cpu
