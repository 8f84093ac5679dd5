// The dilated 3x3 convolution on features and its weight's gradient, for the operators of its name and for the branches.
#pragma once

#include "dispatch.h"
#include "kernels/layer.h"

namespace bam_fused::cpu {

struct ConvShape {
  int64_t samples, height, width, inputs, outputs, dilation;

  int64_t products() const { return samples * height * width * inputs * outputs; }  // of each tap
};

// `like` has the dtype whose compute type all this is in.
void convolve(
    const Tensor& like, const ConvShape& shape, const Tensor& packed_weight, const Finish& finish, const PerSample& in,
    const PerSample& out);

// (O, I, 3, 3)
Tensor convolution_weight_grad(const Tensor& like, const ConvShape& shape, const PerSample& in, const PerSample& grad);

}  // namespace bam_fused::cpu
