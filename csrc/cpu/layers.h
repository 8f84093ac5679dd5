// What the operators on BAM's layers share: packed weights, and how squeeze is cut into tiles.
#pragma once

#include "../shared/bam.h"
#include "dispatch.h"
#include "kernels/squeeze.h"

namespace bam_fused::cpu {

// `length` rounded up to whole vectors of x's compute type.
int64_t padded(const Tensor& x, int64_t length);

// A weight [outputs, inputs, taps] (any dtype and strides) as the kernels read it: [taps, inputs, padded outputs].
Tensor packed_weight(const Tensor& x, const Tensor& weight, int64_t outputs, int64_t inputs, int64_t taps);

// A workspace of `length` numbers in x's compute type, padded to whole vectors, all `value`.
Tensor filled(const Tensor& x, int64_t length, double value);

// One row of a weight, (1, I) or (1, I, 1, 1), padded with zeros.
Tensor packed_row(const Tensor& x, const Tensor& weight);

// What follows a layer's sums: scales, then shifts, [2, padded outputs]. Bias and BatchNorm in one, from their tensors as they
// are now.
Tensor finish_of(const Tensor& x, const BamLayer& layer);

// The arguments of squeeze that follow from x's shape and rows, its tiles among them.
SqueezeArguments squeeze_arguments(const FeatureMap& map, const Tensor& x, int64_t outputs);

}  // namespace bam_fused::cpu
