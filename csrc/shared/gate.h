// The operators gate, gate_backward and gate_logit_grads up to the launch, which a backend supplies.
#pragma once

#include <string>
#include <tuple>

#include "arguments.h"
#include "feature_map.h"

namespace bam_fused {

// What belongs to the rows and to the columns of a feature map: one side's logits or their gradient each.
template <class T>
struct Sides {
  T row, column;
};

template <class T>
Sides<T> sides(const FeatureMap& map, const T& of_channels, const T& of_positions) {
  return map.rows_are_channels() ? Sides<T>{of_channels, of_positions} : Sides<T>{of_positions, of_channels};
}

struct GateCall {
  const FeatureMap& map;
  Combine combine;
  Map x, out;
  Sides<Tensor> logits;
};

// out = x + x * sigmoid(combine(channel_logits, spatial_logits)); launch(GateCall) writes it.
template <class Launch>
Tensor gate(
    const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits, const std::string& combine,
    Launch launch) {
  check_gate(x, channel_logits, spatial_logits);
  const Combine how = parse_combine(combine);
  Tensor out = fresh_like(x);
  if (x.numel() == 0) return out;
  const FeatureMap map({&x, &out});
  const View read = map.readable(x), written = map.writable(out);
  launch(GateCall{map, how, read.map, written.map, sides(map, channel_logits, spatial_logits)});
  map.finish(written, out);
  return out;
}

struct GateBackwardCall {
  const FeatureMap& map;
  Combine combine;
  Map grad, x, dx;                  // dx null where it is not wanted
  Sides<Tensor> logits, gradients;  // the gradients contiguous, in the logits' dtypes
  bool uniform_grad = false;        // one number everywhere: grad is a row of it, with strides of 0
};

// dx and the gradients of both logits; launch(GateBackwardCall) writes them.
template <class Launch>
std::tuple<Tensor, Tensor, Tensor> gate_backward(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine, Launch launch) {
  check_gate(x, channel_logits, spatial_logits);
  check_grad(grad, x);
  const Combine how = parse_combine(combine);
  Tensor dx = fresh_like(x);
  if (x.numel() == 0) {
    return {
        dx, torch::stable::new_zeros(channel_logits, channel_logits.sizes()),
        torch::stable::new_zeros(spatial_logits, spatial_logits.sizes())};
  }
  const Tensor dchannel = torch::stable::new_empty(channel_logits, channel_logits.sizes());
  const Tensor dspatial = torch::stable::new_empty(spatial_logits, spatial_logits.sizes());
  const FeatureMap map({&x, &dx, &grad});
  const View read = map.readable(x), read_grad = map.readable_gradient(grad), written = map.writable(dx);
  launch(
      GateBackwardCall{
          map, how, read_grad.map, read.map, written.map, sides(map, channel_logits, spatial_logits),
          sides(map, dchannel, dspatial), read_grad.uniform});
  map.finish(written, dx);
  return {dx, dchannel, dspatial};
}

// The gradients of both logits alone; launch(GateBackwardCall), whose dx is null, writes them.
template <class Launch>
std::tuple<Tensor, Tensor> gate_logit_grads(
    const Tensor& grad, const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits,
    const std::string& combine, Launch launch) {
  check_gate(x, channel_logits, spatial_logits);
  check_grad(grad, x);
  const Combine how = parse_combine(combine);
  if (x.numel() == 0) {
    return {
        torch::stable::new_zeros(channel_logits, channel_logits.sizes()),
        torch::stable::new_zeros(spatial_logits, spatial_logits.sizes())};
  }
  const Tensor dchannel = torch::stable::new_empty(channel_logits, channel_logits.sizes());
  const Tensor dspatial = torch::stable::new_empty(spatial_logits, spatial_logits.sizes());
  const FeatureMap map({&x, &grad});
  const View read = map.readable(x), read_grad = map.readable_gradient(grad);
  launch(
      GateBackwardCall{
          map,
          how,
          read_grad.map,
          read.map,
          {},
          sides(map, channel_logits, spatial_logits),
          sides(map, dchannel, dspatial)});
  return {dchannel, dspatial};
}

}  // namespace bam_fused
