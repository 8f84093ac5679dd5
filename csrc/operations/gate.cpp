// The operators gate, gate_backward and gate_logit_grads up to the launch.
#include "gate.h"

#include <string>
#include <tuple>

#include "../shared/arguments.h"
#include "../shared/feature_map.h"
#include "../shared/logits.h"
#include "../shared/registration.h"

namespace bam_fused {
namespace {

// out = x + x * sigmoid(combine(channel_logits, spatial_logits)).
Tensor gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  const Combine how = parse_combine(combine);
  Tensor out = fresh_like(x);
  if (x.numel() == 0) return out;
  const FeatureMap map({&x, &out});
  const View read = map.readable(x), written = map.writable(out);
  const Sides<LogitsView> logits = sides(map, logits_of(channel_logits, x), logits_of(spatial_logits, x));
  launch_on(
      x, GateCall{extent_of(map), dtype_of(x), how, read.map, written.map, logits.row.logits, logits.column.logits});
  map.finish(written, out);
  return out;
}

Combine check_gate_backward(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  check_gate(x, channel_logits, spatial_logits);
  check_grad(grad, x);
  return parse_combine(combine);
}

// The gradients of both logits, contiguous and in their dtypes; `dx` is written too where there is one.
std::tuple<Tensor, Tensor> gradients(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, Combine combine,
    Tensor* dx) {
  Tensor dchannel = torch::stable::new_empty(channel_logits, channel_logits.sizes());
  Tensor dspatial = torch::stable::new_empty(spatial_logits, spatial_logits.sizes());
  if (x.numel() == 0) return {torch::stable::zero_(dchannel), torch::stable::zero_(dspatial)};
  const FeatureMap map = dx ? FeatureMap({&x, dx, &grad}) : FeatureMap({&x, &grad});
  const View read = map.readable(x), read_grad = map.readable_gradient(grad);
  const View written = dx ? map.writable(*dx) : View{};
  const Sides<LogitsView> logits = sides(map, logits_of(channel_logits, x), logits_of(spatial_logits, x));
  const Sides<Results> results = sides(map, results_of(dchannel), results_of(dspatial));
  launch_on(
      x, GateBackwardCall{
             extent_of(map), dtype_of(x), combine, read_grad.map, read_grad.uniform, read.map, written.map,
             logits.row.logits, logits.column.logits, results.row, results.column});
  if (dx) map.finish(written, *dx);
  return {dchannel, dspatial};
}

std::tuple<Tensor, Tensor, Tensor> gate_backward(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  const Combine how = check_gate_backward(grad, x, channel_logits, spatial_logits, combine);
  Tensor dx = fresh_like(x);
  const auto [dchannel, dspatial] = gradients(grad, x, channel_logits, spatial_logits, how, &dx);
  return {dx, dchannel, dspatial};
}

// The gradients of both logits alone.
std::tuple<Tensor, Tensor> gate_logit_grads(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine) {
  const Combine how = check_gate_backward(grad, x, channel_logits, spatial_logits, combine);
  return gradients(grad, x, channel_logits, spatial_logits, how, nullptr);
}

}  // namespace
}  // namespace bam_fused

BAM_OPERATORS(m) {
  m.impl("gate.compiled", TORCH_BOX(&bam_fused::gate));
  m.impl("gate_backward.compiled", TORCH_BOX(&bam_fused::gate_backward));
  m.impl("gate_logit_grads.compiled", TORCH_BOX(&bam_fused::gate_logit_grads));
}
