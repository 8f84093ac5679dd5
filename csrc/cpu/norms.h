// A norm and a ReLU behind a layer: from its tensors, or the batch, to one scale and shift per channel, and the gradients.
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

// The rows of channels that it runs over. A single channel is folded: a row of several columns, all of that channel.
struct NormedRows {
  int64_t samples, channels;
  NormRows shape;

  int64_t values() const { return samples * shape.rows * shape.columns / channels; }  // of each channel
};
NormedRows normed_rows(int64_t samples, int64_t rows, int64_t channels, int64_t stride);
NormedRows folded_rows(int64_t values);
constexpr int64_t kMostFolds = 64;

// Mean, inverse deviation, scale and shift of each column.
struct NormVectors {
  char* memory = nullptr;
  int64_t bytes = 0;  // of each

  void* mean() const { return memory; }
  void* inverse_deviation() const { return memory + bytes; }
  void* scale() const { return memory + 2 * bytes; }
  void* shift() const { return memory + 3 * bytes; }
};

// Of each channel in float64.
struct Statistics {
  std::vector<double> mean, squares;  // the sum of squares about the mean
};
Statistics batch_statistics(const Tensor& like, const NormedRows& rows, const PerSample& in);

// Fills the vectors; the statistics are asked for where the norm takes the batch's.
void set_vectors(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const Statistics& statistics,
    const NormVectors& vectors);

void normalise(
    const Tensor& like, const NormedRows& rows, const NormVectors& vectors, bool relu, const PerSample& in,
    const PerSample& out);

// Of each channel: the gradients of the norm's weight and bias, and of the bias of the layer before.
struct NormGrads {
  std::vector<double> offset, gain, bias;
};
// Writes the gradient in front of the norm to `out`, too, if that is given.
NormGrads norm_backward(
    const Tensor& like, const NormLayer& layer, const NormedRows& rows, const NormVectors& vectors, const PerSample& in,
    const PerSample& grad, const PerSample* out);

}  // namespace bam_fused::cpu
