// The dilated 3x3 convolution on features and its weight's gradient, for the operators of its name and for the
// branches.
#pragma once

#include "dispatch.h"
#include "kernels/norm.h"

namespace bam_fused::cpu {

struct ConvShape {
  int64_t samples, height, width, inputs, outputs, dilation;

  int64_t products() const { return samples * height * width * inputs * outputs; }  // of each tap
};

// How the map's rows are cut: into chunks, of which sums over what a convolution writes are taken, and parts of whole
// chunks.
struct ConvRowsCut {
  int64_t chunk_rows, part_rows;
};
ConvRowsCut cut_rows(int64_t samples, int64_t height, int64_t width);

// Sums over what is written that are taken meanwhile.
struct ConvSums {
  NormStatisticsArguments statistics{};
  NormGradSumsArguments grads{};
};

// The dtype of the kernels of a layer's products: bfloat16 where its weight's factors are pairs of that
// (kernels/simd.h), else the compute type of `like`.
Dtype product_dtype(const Tensor& like, const Tensor& weight);
inline bool are_pairs(Dtype products) { return products == Dtype::bfloat16; }

// What goes in and what comes out (kernels/dilated_conv.h).
struct ConvFeatures {
  PerSample in;
  int64_t in_row;
  PerSample out, rounded{};
  int64_t rounded_row = 0;
};

// The weight is factors.
void convolve(
    Dtype products, const ConvShape& shape, const void* packed_weight, const Finish& finish,
    const ConvFeatures& features, const ConvSums& sums = {});

// (O, I, 3, 3). The input is what goes through `in_finish` first; no scale where that is nothing. The gradient is
// factors of sums over positions.
Tensor convolution_weight_grad(
    Dtype products, const Tensor& like, const ConvShape& shape, const PerSample& in, const Finish& in_finish,
    const PerSample& grad);

// Features as factors, where these are pairs (kernels/feature_factors.h).
struct FactorsOf {
  PerSample channels{}, positions{};
};
void make_factors(const ConvShape& shape, int64_t channels, const PerSample& in, const FactorsOf& factors);

}  // namespace bam_fused::cpu
