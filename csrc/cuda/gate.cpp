// The operators gate and gate_backward on CUDA devices.
#include "../shared/gate.h"

#include "core/registration.h"
#include "kernels.h"
#include "tensors.h"

namespace bam_fused::cuda {
namespace {

Tensor gate_operator(
    const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  return bam_fused::gate(x, channel_logits, spatial_logits, combine, [&](const GateCall& call) {
    on_device(x, [&](const Target& target) {
      Sides<Tensor> read;
      const Logits row = logits_of(call.logits.row, read.row), column = logits_of(call.logits.column, read.column);
      gate(extent_of(call.map), dtype_of(x), call.combine, call.x, row, column, call.out, target);
    });
  });
}

std::tuple<Tensor, Tensor, Tensor> gate_backward_operator(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  const auto launch = [&](const GateBackwardCall& call) {
    on_device(x, [&](const Target& target) {
      Sides<Tensor> read;
      const Logits row = logits_of(call.logits.row, read.row), column = logits_of(call.logits.column, read.column);
      Memory memory(x);
      gate_backward(
          extent_of(call.map), dtype_of(x), call.combine, call.grad, call.uniform_grad, call.x, row, column, call.dx,
          results_of(call.gradients.row), results_of(call.gradients.column), target, std::ref(memory));
    });
  };
  return bam_fused::gate_backward(grad, x, channel_logits, spatial_logits, combine, launch);
}

}  // namespace
}  // namespace bam_fused::cuda

BAM_OPERATORS(m) {
  m.impl("gate.compiled", TORCH_BOX(&bam_fused::cuda::gate_operator));
  m.impl("gate_backward.compiled", TORCH_BOX(&bam_fused::cuda::gate_backward_operator));
}
