// The operators gate and gate_backward on the CPU.
#include <tuple>

#include "../arguments.h"
#include "dispatch.h"

namespace bam_fused::cpu {
namespace {

// The feature map of a call with its tiling, and the logits as the kernels read them.
struct Plan : FeatureMap {
  Tiling tiling;
  Tensor channel, spatial;

  Plan(std::initializer_list<const Tensor*> maps, const Tensor& channel_logits, const Tensor& spatial_logits)
      : FeatureMap(maps),
        tiling(tiling_of(shape, rows, accumulator_of(**maps.begin()) == ScalarType::Double ? 8 : 4)),
        channel(as_accumulators(channel_logits, **maps.begin())),
        spatial(as_accumulators(spatial_logits, **maps.begin())) {}

  const void* row_logits() const { return (rows_are_channels() ? channel : spatial).const_data_ptr(); }
  const void* column_logits() const { return (rows_are_channels() ? spatial : channel).const_data_ptr(); }
};

Tensor gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  const Combine how = parse_combine(combine);
  Tensor out = fresh_like(x);
  if (x.numel() == 0) return out;
  const Plan plan({&x, &out}, channel_logits, spatial_logits);
  const View read = plan.readable(x), written = plan.writable(out);
  const GateArguments arguments{
      plan.tiling, how, map_of(read), map_of(written), plan.row_logits(), plan.column_logits()};
  for_tiles(kernels().gate[storage_of(x)], arguments, plan.tiling.tiles(), plan.shape.elements());
  plan.finish(written, out);
  return out;
}

// Where the tiles' sums for one side's logits go, and how they become its gradient.
struct SideGradient {
  Tensor gradient, partials;
  int64_t count;

  // With one partial sum per logit, in the gradient's own dtype, the kernel writes the gradient itself.
  SideGradient(
      const Plan& plan, const Tensor& x, const Tensor& logits, int64_t length, int64_t partials_per_logit)
      : gradient(torch::stable::new_empty(logits, logits.sizes())),
        partials(partials_per_logit == 1 && logits.scalar_type() == accumulator_of(x)
                     ? gradient
                     : workspace(x, {plan.shape.samples, partials_per_logit, length})),
        count(partials_per_logit) {}

  void finish(const Plan& plan, const Tensor& x) const {
    if (partials.data_ptr() != gradient.data_ptr()) {
      sum_partials(x, partials, gradient, plan.shape.samples, count, 1.0);
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
  const Plan plan({&x, &dx, &grad}, channel_logits, spatial_logits);
  const View read = plan.readable(x), read_grad = plan.readable_gradient(grad), written = plan.writable(dx);
  const bool rows_are_channels = plan.rows_are_channels();
  const Tiling& tiling = plan.tiling;
  const SideGradient row(plan, x, rows_are_channels ? channel_logits : spatial_logits, tiling.rows, tiling.column_tiles);
  const SideGradient column(plan, x, rows_are_channels ? spatial_logits : channel_logits, tiling.columns, tiling.row_tiles);
  const GateBackwardArguments arguments{
      tiling,
      how,
      map_of(read_grad),
      map_of(read),
      map_of(written),
      plan.row_logits(),
      plan.column_logits(),
      row.partials.data_ptr(),
      column.partials.data_ptr()};
  for_tiles(kernels().gate_backward[storage_of(x)], arguments, tiling.tiles(), plan.shape.elements());
  row.finish(plan, x);
  column.finish(plan, x);
  plan.finish(written, dx);
  return {dx, (rows_are_channels ? row : column).gradient, (rows_are_channels ? column : row).gradient};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("gate", TORCH_BOX(&bam_fused::cpu::gate));
  m.impl("gate_backward", TORCH_BOX(&bam_fused::cpu::gate_backward));
}
