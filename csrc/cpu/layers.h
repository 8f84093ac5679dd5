// What the operators on BAM's layers share: packed weights, and how squeeze is cut into tiles.
#pragma once

#include <vector>

#include "../shared/bam.h"
#include "dispatch.h"
#include "kernels/pack_weight.h"
#include "kernels/squeeze.h"

namespace bam_fused::cpu {

// Of x's compute type.
int64_t compute_bytes(const Tensor& x);

// `length` rounded up to whole vectors of x's compute type.
int64_t padded(const Tensor& x, int64_t length);

// A layer's weight as a kernel reads it, contiguous and of x's dtype or compute type: itself, if it is.
Tensor readable_weight(const Tensor& weight, const Tensor& x);

// How a weight (O, I), (O, I, 1, 1) or (O, I, 3, 3) of any dtype and strides is packed as [taps, inputs, padded outputs].
class Packing {
 public:
  Packing(const Tensor& x, const Tensor& weight);

  int64_t numbers() const { return numbers_; }  // of the compute type, packed
  void run(void* packed) const;                 // at once
  void run_parallel(void* packed) const;

 private:
  Tensor weight_;
  PackArguments arguments_;
  int64_t numbers_;
};

// The same in memory of its own.
Tensor packed_weight(const Tensor& x, const Tensor& weight);

// A workspace of `length` numbers in x's compute type, padded to whole vectors, all `value`.
Tensor filled(const Tensor& x, int64_t length, double value);

// A vector (any dtype) of `length` numbers as a workspace padded with zeros; where it is missing, all are `otherwise`.
Tensor padded_vector(const Tensor& x, const std::optional<Tensor>& vector, int64_t length, double otherwise);

// Memory of a call in x's compute type, handed out piece by piece, each from a multiple of 64 bytes on.
class Workspace {
 public:
  explicit Workspace(const Tensor& x) : x_(x) {}

  void* take(int64_t numbers);

 private:
  const Tensor& x_;
  std::vector<Tensor> blocks_;
  char* at_ = nullptr;
  int64_t left_ = 0;  // bytes
};

// One row of a weight, (1, I) or (1, I, 1, 1), padded with zeros to whole vectors.
const void* padded_row(const Tensor& x, const Tensor& weight, Workspace& space);

// What follows a layer's sums: bias and BatchNorm in one, from their tensors as they are now.
Finish finish_of(const Tensor& x, const BamLayer& layer, Workspace& space);

// The arguments of squeeze that follow from x's shape and rows, its tiles among them.
SqueezeArguments squeeze_arguments(const FeatureMap& map, const Tensor& x, int64_t outputs);

}  // namespace bam_fused::cpu
