// The operators gate, gate_backward and gate_logit_grads on the CPU.
#include "../shared/gate.h"

#include "dispatch.h"
#include "kernels/gate.h"

namespace bam_fused::cpu {
namespace {

Tensor gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  return bam_fused::gate(x, channel_logits, spatial_logits, combine, [&](const GateCall& call) {
    const Tensor row = as_compute_dtype(call.logits.row, x), column = as_compute_dtype(call.logits.column, x);
    const GateArguments arguments{tiling_of(call.map, x), call.combine,           call.x, call.out,
                                  row.const_data_ptr(),   column.const_data_ptr()};
    for_tiles(arguments, dtype_of(x), arguments.tiling.tiles(), x.numel());
  });
}

// Where the kernel puts its partial sums of a side's gradient: the gradient itself where there is one sum for each logit, in
// its own dtype.
Tensor partial_sums(const Tensor& x, const Tensor& gradient, int64_t partials) {
  const bool final = partials == 1 && gradient.scalar_type() == compute_dtype(x);
  return final ? gradient : workspace(x, {partials, gradient.numel()});
}

void finish(const Tensor& x, const Tensor& sums, const Tensor& gradient, int64_t partials) {
  if (sums.data_ptr() != gradient.data_ptr()) sum_partials(x, sums, gradient, x.size(0), partials, 1.0);
}

void launch_backward(const Tensor& x, const GateBackwardCall& call) {
  const Tiling tiling = tiling_of(call.map, x);
  const Tensor row = as_compute_dtype(call.logits.row, x), column = as_compute_dtype(call.logits.column, x);
  const Tensor row_sums = partial_sums(x, call.gradients.row, tiling.column_tiles);
  const Tensor column_sums = partial_sums(x, call.gradients.column, tiling.row_tiles);
  const GateBackwardArguments arguments{
      tiling,
      call.combine,
      call.grad,
      call.x,
      call.dx,
      row.const_data_ptr(),
      column.const_data_ptr(),
      row_sums.data_ptr(),
      column_sums.data_ptr()};
  for_tiles(arguments, dtype_of(x), tiling.tiles(), x.numel());
  finish(x, row_sums, call.gradients.row, tiling.column_tiles);
  finish(x, column_sums, call.gradients.column, tiling.row_tiles);
}

std::tuple<Tensor, Tensor, Tensor> gate_backward(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  return bam_fused::gate_backward(grad, x, channel_logits, spatial_logits, combine, [&](const GateBackwardCall& call) {
    launch_backward(x, call);
  });
}

std::tuple<Tensor, Tensor> gate_logit_grads(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  return bam_fused::gate_logit_grads(
      grad, x, channel_logits, spatial_logits, combine,
      [&](const GateBackwardCall& call) { launch_backward(x, call); });
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("gate.compiled", TORCH_BOX(&bam_fused::cpu::gate));
  m.impl("gate_backward.compiled", TORCH_BOX(&bam_fused::cpu::gate_backward));
  m.impl("gate_logit_grads.compiled", TORCH_BOX(&bam_fused::cpu::gate_logit_grads));
}
