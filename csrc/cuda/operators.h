// The operators, as PyTorch calls them; schemas and contract in bam_fused/ops.
#pragma once

#include <string>
#include <tuple>

#include "../shared/stable.h"

namespace bam_fused::cuda {

Tensor gate_operator(
    const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine);

std::tuple<Tensor, Tensor, Tensor> gate_backward_operator(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine);

Tensor global_avg_pool_operator(const Tensor& x);

}  // namespace bam_fused::cuda
