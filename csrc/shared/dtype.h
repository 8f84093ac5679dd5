// The dtypes of feature maps. No header of PyTorch here: kernels include this.
#pragma once

namespace bam_fused {

enum class Dtype { float64, float32, bfloat16, float16 };

constexpr int kDtypes = 4;

}  // namespace bam_fused
