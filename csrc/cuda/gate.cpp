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
  Tensor out = fresh_like(x);
  if (x.numel() == 0) return out;
  on_device(x, [&](const Target& target) {
    const FeatureMap map({&x, &out});
    const Sides logits(map, channel_logits, spatial_logits);
    const View read = map.readable(x), written = map.writable(out);
    gate(extent_of(map), dtype_of(x), how, matrix_of(read), logits.row, logits.column, matrix_of(written), target);
    map.finish(written, out);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> gate_backward_operator(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  check_grad(grad, x);
  const Combine how = parse_combine(combine);
  Tensor dx = fresh_like(x);
  if (x.numel() == 0) {
    Tensor dchannel = torch::stable::new_zeros(channel_logits, channel_logits.sizes());
    return {dx, dchannel, torch::stable::new_zeros(spatial_logits, spatial_logits.sizes())};
  }
  Tensor dchannel = torch::stable::new_empty(channel_logits, channel_logits.sizes());
  Tensor dspatial = torch::stable::new_empty(spatial_logits, spatial_logits.sizes());
  on_device(x, [&](const Target& target) {
    const FeatureMap map({&x, &dx, &grad});
    const Sides logits(map, channel_logits, spatial_logits);
    const View read = map.readable(x), read_grad = map.readable_gradient(grad), written = map.writable(dx);
    Results drow = results_of(dchannel), dcolumn = results_of(dspatial);
    if (!map.rows_are_channels()) std::swap(drow, dcolumn);
    Memory memory(x);
    gate_backward(extent_of(map), dtype_of(x), how, matrix_of(read_grad), matrix_of(read), logits.row, logits.column,
                  matrix_of(written), drow, dcolumn, target, std::ref(memory));
    map.finish(written, dx);
  });
  return {dx, dchannel, dspatial};
}

}  // namespace bam_fused::cuda
