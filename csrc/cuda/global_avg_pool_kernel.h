// The launcher of global_avg_pool.
#pragma once

#include "matrices.h"

namespace bam_fused::cuda {

/// The mean of each row (`of_rows`, the pool in NCHW) or of each column (in NHWC): one read of x.
void global_avg_pool(
    const Extent& extent, Dtype dtype, bool of_rows, const Map& x, const Results& means, const Target& target,
    const Allocate& allocate);

}  // namespace bam_fused::cuda
