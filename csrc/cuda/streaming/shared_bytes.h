// How much shared memory the sums of a block take: as much as its threads need, and no more.
#pragma once

#include <algorithm>

#include "tiling.h"

namespace bam_fused::cuda {

constexpr int kArrivedBytes = 16;  // what of it says which sums a last block is to add up

inline int shared_bytes(Access access, int sum_size, bool rows, bool columns, int threads) {
  const int buffered = rows ? (access.straddle ? 2 : 1) * kBatch : 0, of_columns = columns ? access.vector : 0;
  const int chunk = std::min(access.vector, 4);
  return kArrivedBytes + std::max({buffered, of_columns, chunk}) * threads * sum_size;
}

}  // namespace bam_fused::cuda
