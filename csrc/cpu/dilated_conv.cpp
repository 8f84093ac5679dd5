// The operators dilated_conv and dilated_conv_weight_grad on the CPU.
#include <algorithm>
#include <optional>

#include "../shared/arguments.h"
#include "dilated_conv.h"
#include "features.h"
#include "kernels/dilated_conv.h"
#include "kernels/dilated_conv_weight_grad.h"
#include "kernels/feature_factors.h"
#include "layers.h"
#include "norms.h"

namespace bam_fused::cpu {

ConvRowsCut cut_rows(int64_t samples, int64_t height, int64_t width) {
  constexpr int64_t enough_parts = 32;
  const int64_t most = std::max<int64_t>(1, height * samples / enough_parts);
  const int64_t chunk = std::clamp<int64_t>(kChunkRows / width, 1, most);
  return {chunk, most / chunk * chunk};
}

Dtype product_dtype(const Tensor& like, const Tensor& weight) {
  return multiplies_pairs(weight) && !is_float64(like) ? Dtype::bfloat16 : computed_dtype(like);
}

void make_factors(const ConvShape& shape, int64_t channels, const PerSample& in, const FactorsOf& factors) {
  const FeatureFactorsArguments a{shape.height, shape.width, channels, in, factors.channels, factors.positions};
  const int64_t rows = shape.samples * shape.height;
  for_tiles(a, Dtype::bfloat16, rows, rows * shape.width * channels);
}

void convolve(
    Dtype products, const ConvShape& shape, const void* packed_weight, const Finish& finish,
    const ConvFeatures& features, const ConvSums& sums) {
  DilatedConvArguments a{};
  a.height = shape.height;
  a.width = shape.width;
  a.inputs = shape.inputs;
  a.outputs = shape.outputs;
  a.dilation = shape.dilation;
  a.part_rows = cut_rows(shape.samples, shape.height, shape.width).part_rows;
  a.parts = (shape.height + a.part_rows - 1) / a.part_rows;
  a.weight = {packed_weight, 0, shape.inputs, 0, shape.outputs};
  a.finish = finish;
  a.in = features.in;
  a.in_row = features.in_row;
  a.out = features.out;
  a.rounded = features.rounded;
  a.rounded_row = features.rounded_row;
  a.statistics = sums.statistics;
  a.grad_sums = sums.grads;
  for_tiles(a, products, shape.samples * a.parts, shape.products());
}

Tensor convolution_weight_grad(
    Dtype products, const Tensor& like, const ConvShape& shape, const PerSample& in, const Finish& in_finish,
    const PerSample& grad) {
  constexpr int64_t enough_tasks = 16;
  const int64_t inputs = shape.inputs, outputs = shape.outputs;
  DilatedConvWeightGradArguments a{};
  a.samples = shape.samples;
  a.height = shape.height;
  a.width = shape.width;
  a.inputs = inputs;
  a.outputs = outputs;
  a.dilation = shape.dilation;
  a.strip_columns = std::min(shape.width, kMostStripPositions);
  a.strip_rows = std::clamp<int64_t>(kMostStripPositions / shape.width, 1, shape.height);
  a.groups = (outputs + 11) / 12;
  a.splits = 1;
  while (a.splits * a.groups < enough_tasks && 2 * a.splits <= a.samples * a.strips()) a.splits *= 2;
  a.in = in;
  a.in_finish = in_finish;
  a.grad = grad;
  const Tensor partials = workspace(like, {outputs, 9, a.splits, inputs}),
               out = workspace(like, {outputs, inputs, 3, 3});
  a.partials = partials.data_ptr();
  for_tiles(a, products, a.splits * a.groups, shape.products());
  sum_partials(like, partials, out, 9 * outputs, a.splits, 1.0, 9);
  return out;
}

namespace {

using torch::headeronly::MemoryFormat;

// Whether t, of bfloat16, is channels_last with whole pairs of channels: factors as it is.
bool is_pairs(const Tensor& t) {
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  return c % 2 == 0 && t.stride(1) == 1 && t.stride(3) == c && t.stride(2) == w * c && t.stride(0) == h * w * c;
}

// The memory of t, contiguous in one format or the other.
PerSample samples_of(const Tensor& t) {
  const int64_t bytes = t.size(1) * t.size(2) * t.size(3) * static_cast<int64_t>(t.element_size());
  return {const_cast<void*>(t.const_data_ptr()), bytes};
}

Tensor dilated_conv(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t dilation, bool relu) {
  check_feature_map(x);
  require(
      weight.dim() == 4 && weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
      "weight must be (O, I, 3, 3) with I = C of x");
  require(dilation > 0, "dilation must be at least 1");
  const ConvShape shape{x.size(0), x.size(2), x.size(3), x.size(1), weight.size(0), dilation};
  Tensor out = torch::stable::empty(
      {shape.samples, shape.outputs, shape.height, shape.width}, x.scalar_type(), std::nullopt, x.device(),
      std::nullopt, MemoryFormat::ChannelsLast);
  if (out.numel() == 0) return out;
  const bool pairs = multiplies_pairs(x) && multiplies_pairs(weight);
  const Tensor packed = packed_weight(x, weight, pairs ? Pairs::of_inputs : Pairs::none);
  Workspace space(x);
  const Finish finish = bias_alone(x, bias, shape.outputs, relu, space);
  const bool as_it_is = pairs && is_pairs(x);
  const Features in = as_it_is ? Features{x, samples_of(x)} : features_of(x), written = features_to_write(out);
  if (pairs && !as_it_is) make_factors(shape, shape.inputs, in.each, {in.each});
  ConvFeatures features{in.each, as_it_is ? shape.inputs / 2 : padded(x, shape.inputs), written.each};
  if (pairs && padded(x, shape.outputs) == shape.outputs) {
    features.rounded = samples_of(out);
    features.rounded_row = shape.outputs;
  }
  convolve(pairs ? Dtype::bfloat16 : computed_dtype(x), shape, packed.const_data_ptr(), finish, features);
  if (!features.rounded.data) finish_features(written, out);
  return out;
}

Tensor dilated_conv_weight_grad(const Tensor& x, const Tensor& grad, int64_t dilation) {
  check_feature_map(x);
  check_feature_map(grad);
  const ConvShape shape{x.size(0), x.size(2), x.size(3), x.size(1), grad.size(1), dilation};
  require(
      grad.size(0) == shape.samples && grad.size(2) == shape.height && grad.size(3) == shape.width &&
          grad.scalar_type() == x.scalar_type(),
      "grad must be (N, O, H, W) of x, in its dtype");
  if (x.numel() == 0 || grad.numel() == 0) {
    Tensor out = workspace(x, {shape.outputs, shape.inputs, 3, 3});
    return torch::stable::fill_(out, 0.0);
  }
  const bool pairs = multiplies_pairs(x);
  const Features in = features_of(x), gradients = features_of(grad);
  if (pairs) make_factors(shape, shape.outputs, gradients.each, {{}, gradients.each});
  return convolution_weight_grad(pairs ? Dtype::bfloat16 : computed_dtype(x), x, shape, in.each, {}, gradients.each);
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("dilated_conv.compiled", TORCH_BOX(&bam_fused::cpu::dilated_conv));
  m.impl("dilated_conv_weight_grad.compiled", TORCH_BOX(&bam_fused::cpu::dilated_conv_weight_grad));
}
