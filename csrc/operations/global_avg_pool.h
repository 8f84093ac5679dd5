// What the kernels of global_avg_pool are given. No header of PyTorch here.
#pragma once

#include "../shared/dtype.h"
#include "../shared/layout.h"

namespace bam_fused {

// The mean of each row (`of_rows`, the pool in NCHW) or of each column (in NHWC): one read of x.
struct PoolCall {
  Extent extent;
  Dtype dtype;
  bool of_rows;
  Map x;
  Results means;
};

void launch(const PoolCall& call, const Target& target);

}  // namespace bam_fused
