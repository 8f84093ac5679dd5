// The operators gate and gate_backward on CUDA devices.
#include "../arguments.h"
#include "gate_kernels.h"
#include "operators.h"
#include "tensors.h"

namespace bam_fused::cuda {
namespace {

// Both logits as what they are to the matrix: one per row, one per column.
struct Sides {
  Tensor spatial_copy;
  Logits row, column;

  Sides(const FeatureMap& map, const Tensor& channel_logits, const Tensor& spatial_logits) {
    row = channel_logits_of(channel_logits);
    column = spatial_logits_of(spatial_logits, spatial_copy);
    if (!map.rows_are_channels()) std::swap(row, column);
  }
};

}  // namespace

Tensor gate_operator(
    const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  const Combine how = parse_combine(combine);
  Tensor out = torch::stable::empty_like(x);
  if (x.numel() == 0) return out;
  on_device(x, [&](const Target& target) {
    const FeatureMap map(x);
    const Sides logits(map, channel_logits, spatial_logits);
    const Tensor written = map.writable(out);
    gate(map.extent, dtype_of(x), how, matrix_of(map.x, map.rows), logits.row, logits.column,
         matrix_of(written, map.rows), target);
    if (written.data_ptr() != out.data_ptr()) torch::stable::copy_(out, written);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> gate_backward_operator(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  check_grad(grad, x);
  const Combine how = parse_combine(combine);
  Tensor dx = torch::stable::empty_like(x);
  if (x.numel() == 0) {
    Tensor dchannel = torch::stable::new_zeros(channel_logits, channel_logits.sizes());
    return {dx, dchannel, torch::stable::new_zeros(spatial_logits, spatial_logits.sizes())};
  }
  Tensor dchannel = torch::stable::new_empty(channel_logits, channel_logits.sizes());
  Tensor dspatial = torch::stable::new_empty(spatial_logits, spatial_logits.sizes());
  on_device(x, [&](const Target& target) {
    const FeatureMap map(x);
    const Sides logits(map, channel_logits, spatial_logits);
    const Tensor written = map.writable(dx);
    Tensor grad_owner;
    const Matrix grads = map.readable(grad, grad_owner);
    Results drow = results_of(dchannel), dcolumn = results_of(dspatial);
    if (!map.rows_are_channels()) std::swap(drow, dcolumn);
    Memory memory(x);
    gate_backward(map.extent, dtype_of(x), how, grads, matrix_of(map.x, map.rows), logits.row, logits.column,
                  matrix_of(written, map.rows), drow, dcolumn, target, std::ref(memory));
    if (written.data_ptr() != dx.data_ptr()) torch::stable::copy_(dx, written);
  });
  return {dx, dchannel, dspatial};
}

}  // namespace bam_fused::cuda
