// The operator global_avg_pool up to the launch, which a backend supplies.
#pragma once

#include <limits>

#include "arguments.h"
#include "feature_map.h"

namespace bam_fused {

struct PoolCall {
  const FeatureMap& map;
  Map x;
  const Tensor& means;  // (N, C), contiguous, in x's dtype
};

// The mean over H and W, NaN where there is nothing to average, as eager has it; launch(PoolCall) writes it.
template <class Launch>
Tensor global_avg_pool(const Tensor& x, Launch launch) {
  check_feature_map(x);
  Tensor means = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (means.numel() == 0) return means;
  if (x.numel() == 0) return torch::stable::fill_(means, std::numeric_limits<double>::quiet_NaN());
  const FeatureMap map({&x});
  const View read = map.readable(x);
  launch(PoolCall{map, read.map, means});
  return means;
}

}  // namespace bam_fused
