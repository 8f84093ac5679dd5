// The operators gate and gate_backward on the CPU.
#include <cstring>
#include <tuple>

#include "../arguments.h"
#include "dispatch.h"

namespace bam_fused::cpu {
namespace {

// The gate wants x, and all that has x's shape, as matrices with the same rows. Where x is none (its H and W transposed, say),
// it works on contiguous copies.
struct Plan {
  Tensor x;
  Rows rows;
  Shape shape;
  Tiling tiling;
  Tensor channel, spatial;  // logits as accumulators

  Plan(const Tensor& given, const Tensor& channel_logits, const Tensor& spatial_logits)
      : x(rows_of(given) ? given : torch::stable::contiguous(given)),
        rows(*rows_of(x)),
        shape(shape_of(x)),
        tiling(tiling_of(shape, rows, accumulator_of(x) == ScalarType::Double ? 8 : 4)),
        channel(as_accumulators(channel_logits, x)),
        spatial(as_accumulators(spatial_logits, x)) {}

  bool rows_are_channels() const { return rows == Rows::channels; }
  const void* row_logits() const { return (rows_are_channels() ? channel : spatial).const_data_ptr(); }
  const void* column_logits() const { return (rows_are_channels() ? spatial : channel).const_data_ptr(); }

  // Where a kernel can write what is to become `out`: `out` itself, or a stand-in to be copied into it.
  Tensor writable(const Tensor& out) const { return as_matrix(out, rows) ? out : fresh_like(x); }

  // A gradient comes in whatever layout its consumer left: read as it is where it is a matrix with these rows; one number
  // read again and again where it is just that; else copied.
  std::pair<Tensor, Map> readable(const Tensor& grad) const {
    if (as_matrix(grad, rows)) return {grad, map_of(grad, rows)};
    if (repeats_one_number(grad)) {
      Tensor row = torch::stable::new_empty(x, {tiling.columns});
      const size_t size = x.element_size();
      for (int64_t k = 0; k < tiling.columns; ++k) {
        std::memcpy(static_cast<char*>(row.data_ptr()) + k * size, grad.const_data_ptr(), size);
      }
      return {row, Map{row.data_ptr(), 0, 0}};
    }
    Tensor copy = fresh_like(x);
    torch::stable::copy_(copy, grad);
    return {copy, map_of(copy, rows)};
  }
};

Tensor gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  const Combine how = parse_combine(combine);
  Tensor out = fresh_like(x);
  if (x.numel() == 0) return out;
  const Plan plan(x, channel_logits, spatial_logits);
  const Tensor written = plan.writable(out);
  const GateArguments arguments{
      plan.tiling, how, map_of(plan.x, plan.rows), map_of(written, plan.rows), plan.row_logits(), plan.column_logits()};
  for_tiles(kernels().gate[storage_of(x)], arguments, plan.tiling.tiles(), plan.shape.elements());
  if (written.data_ptr() != out.data_ptr()) torch::stable::copy_(out, written);
  return out;
}

// Where the tiles' sums for one side's logits go, and how they become its gradient.
struct SideGradient {
  Tensor gradient, partials;
  int64_t count;

  // With one partial sum per logit, in the gradient's own dtype, the kernel writes the gradient itself.
  SideGradient(const Plan& plan, const Tensor& logits, int64_t length, int64_t partials_per_logit)
      : gradient(torch::stable::new_empty(logits, logits.sizes())),
        partials(partials_per_logit == 1 && logits.scalar_type() == accumulator_of(plan.x)
                     ? gradient
                     : workspace(plan.x, {plan.shape.samples, partials_per_logit, length})),
        count(partials_per_logit) {}

  void finish(const Plan& plan) const {
    if (partials.data_ptr() != gradient.data_ptr()) {
      sum_partials(plan.x, partials, gradient, plan.shape.samples, count, 1.0);
    }
  }
};

std::tuple<Tensor, Tensor, Tensor> gate_backward(
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
  const Plan plan(x, channel_logits, spatial_logits);
  const Tensor written = plan.writable(dx);
  const auto [grad_owner, grad_map] = plan.readable(grad);
  const bool rows_are_channels = plan.rows_are_channels();
  const Tiling& tiling = plan.tiling;
  const SideGradient row(plan, rows_are_channels ? channel_logits : spatial_logits, tiling.rows, tiling.column_tiles);
  const SideGradient column(plan, rows_are_channels ? spatial_logits : channel_logits, tiling.columns, tiling.row_tiles);
  const GateBackwardArguments arguments{
      tiling,
      how,
      grad_map,
      map_of(plan.x, plan.rows),
      map_of(written, plan.rows),
      plan.row_logits(),
      plan.column_logits(),
      row.partials.data_ptr(),
      column.partials.data_ptr()};
  for_tiles(kernels().gate_backward[storage_of(x)], arguments, tiling.tiles(), plan.shape.elements());
  row.finish(plan);
  column.finish(plan);
  if (written.data_ptr() != dx.data_ptr()) torch::stable::copy_(dx, written);
  return {dx, (rows_are_channels ? row : column).gradient, (rows_are_channels ? column : row).gradient};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("gate", TORCH_BOX(&bam_fused::cpu::gate));
  m.impl("gate_backward", TORCH_BOX(&bam_fused::cpu::gate_backward));
}
