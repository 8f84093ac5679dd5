// The features of the spatial branch as tensors: what of a batch's memory is such features as it is, and copies of what
// is not.
#pragma once

#include "layers.h"
#include "kernels/layer.h"

namespace bam_fused::cpu {

// Features of a whole batch, and the tensor whose memory they are in.
struct Features {
  Tensor memory;
  PerSample each{};
};

// Fresh features of n samples in the compute type of t.
Features empty_features(const Tensor& t, int64_t n, int64_t c, int64_t positions);

// t's features: its own memory where it is channels_last in the compute type with no padding to be filled, else a copy,
// with zeros in the padding.
Features features_of(const Tensor& t);

// Features to be written for t; finish_features then copies them into it, if they are not its memory.
Features features_to_write(Tensor& t);
void finish_features(const Features& written, Tensor& t);

}  // namespace bam_fused::cpu
