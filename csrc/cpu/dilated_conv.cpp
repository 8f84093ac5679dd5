// The operators dilated_conv and dilated_conv_weight_grad on the CPU.
#include <algorithm>
#include <optional>

#include "../shared/arguments.h"
#include "kernels/dilated_conv.h"
#include "kernels/dilated_conv_weight_grad.h"
#include "layers.h"

namespace bam_fused::cpu {
namespace {

using torch::headeronly::MemoryFormat;

int64_t compute_bytes(const Tensor& x) { return compute_dtype(x) == ScalarType::Double ? 8 : 4; }

// (N, C, H, W) as (N, H, W, C) and back, views both.
Tensor channels_to_end(const Tensor& t) { return torch::stable::transpose(torch::stable::transpose(t, 1, 2), 2, 3); }

// Features of a whole batch, and the tensor that holds them.
struct Features {
  Tensor memory;  // [samples, numbers per sample]
  PerSample each;
};

// Where a channels_last tensor in the compute type has no padding to be filled, its memory is the features.
bool is_features(const Tensor& t) {
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3), sample = h * w * c;
  return t.scalar_type() == compute_dtype(t) && padded(t, c) == c && sample * compute_bytes(t) % 64 == 0 &&
         reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 64 == 0 && t.stride(1) == 1 && t.stride(3) == c &&
         t.stride(2) == w * c && t.stride(0) == sample;
}

Features features_like(const Tensor& t, bool readable) {
  const int64_t n = t.size(0), c = t.size(1), h = t.size(2), w = t.size(3);
  if (is_features(t)) return {t, {const_cast<void*>(t.const_data_ptr()), h * w * c * compute_bytes(t), 0}};
  const int64_t row = padded(t, c), unit = 64 / compute_bytes(t), sample = (h * w * row + unit - 1) / unit * unit;
  Tensor memory = workspace(t, {n * sample + unit});
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory.data_ptr()) + 63) / 64 * 64;
  const int64_t offset =
      static_cast<int64_t>(begin - reinterpret_cast<uintptr_t>(memory.data_ptr())) / compute_bytes(t);
  Tensor samples = torch::stable::view(torch::stable::narrow(memory, 0, offset, n * sample), {n, sample});
  Tensor rows = torch::stable::reshape(torch::stable::narrow(samples, 1, 0, h * w * row), {n, h, w, row});
  if (readable) {
    Tensor channels = torch::stable::narrow(rows, 3, 0, c);
    torch::stable::copy_(channels, channels_to_end(t));
  }
  return {rows, {reinterpret_cast<void*>(begin), sample * compute_bytes(t), 0}};
}

void check_conv(const Tensor& x, const Tensor& weight) {
  check_feature_map(x);
  require(
      weight.dim() == 4 && weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
      "weight must be (O, I, 3, 3) with I = C of x");
}

Tensor dilated_conv(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t dilation, bool relu) {
  check_conv(x, weight);
  require(dilation > 0, "dilation must be at least 1");
  const int64_t n = x.size(0), inputs = x.size(1), h = x.size(2), w = x.size(3), outputs = weight.size(0);
  Tensor out = torch::stable::empty(
      {n, outputs, h, w}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, MemoryFormat::ChannelsLast);
  if (out.numel() == 0) return out;
  const Features in = features_like(x, true);
  Features written = features_like(out, false);
  const Tensor packed = packed_weight(x, weight), scale = filled(x, outputs, 1.0);
  Tensor shift = filled(x, outputs, 0.0);
  if (bias) {
    Tensor values = torch::stable::narrow(shift, 0, 0, outputs);
    torch::stable::copy_(values, *bias);
  }
  constexpr int64_t enough_parts = 32;
  DilatedConvArguments a{};
  a.height = h;
  a.width = w;
  a.inputs = inputs;
  a.outputs = outputs;
  a.dilation = dilation;
  a.part_rows = std::max<int64_t>(1, h * n / enough_parts);
  a.parts = (h + a.part_rows - 1) / a.part_rows;
  a.weight = packed.const_data_ptr();
  a.finish = {scale.const_data_ptr(), shift.const_data_ptr(), relu};
  a.in = in.each;
  a.out = written.each;
  for_tiles(a, dtype_of(x), n * a.parts, n * h * w * inputs * outputs);
  if (written.memory.data_ptr() != out.data_ptr()) {
    Tensor to = channels_to_end(out);
    torch::stable::copy_(to, torch::stable::narrow(written.memory, 3, 0, outputs));
  }
  return out;
}

Tensor dilated_conv_weight_grad(const Tensor& x, const Tensor& grad, int64_t dilation) {
  check_feature_map(x);
  check_feature_map(grad);
  const int64_t n = x.size(0), inputs = x.size(1), h = x.size(2), w = x.size(3), outputs = grad.size(1);
  require(
      grad.size(0) == n && grad.size(2) == h && grad.size(3) == w && grad.scalar_type() == x.scalar_type(),
      "grad must be (N, O, H, W) of x, in its dtype");
  Tensor out = workspace(x, {outputs, inputs, 3, 3});
  if (x.numel() == 0 || grad.numel() == 0) return torch::stable::fill_(out, 0.0);
  const Features in = features_like(x, true), gradients = features_like(grad, true);
  constexpr int64_t most_splits = 16, longest_sum = 256;
  DilatedConvWeightGradArguments a{};
  a.samples = n;
  a.height = h;
  a.width = w;
  a.inputs = inputs;
  a.outputs = outputs;
  a.dilation = dilation;
  a.strip_rows = std::clamp<int64_t>(longest_sum / w, 1, h);
  a.splits = std::min(most_splits, n * ((h + a.strip_rows - 1) / a.strip_rows));
  a.in = in.each;
  a.grad = gradients.each;
  const Tensor partials = workspace(x, {9 * outputs, a.splits, inputs});
  a.partials = partials.data_ptr();
  for_tiles(a, dtype_of(x), a.splits, n * h * w * inputs * outputs);
  const Tensor sums = workspace(x, {9, outputs, inputs});
  sum_partials(x, partials, sums, 9 * outputs, a.splits, 1.0);
  Tensor taps_last = torch::stable::view(out, {outputs, inputs, 9});
  torch::stable::copy_(taps_last, torch::stable::transpose(torch::stable::transpose(sums, 0, 1), 1, 2));
  return out;
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("dilated_conv.compiled", TORCH_BOX(&bam_fused::cpu::dilated_conv));
  m.impl("dilated_conv_weight_grad.compiled", TORCH_BOX(&bam_fused::cpu::dilated_conv_weight_grad));
}
