// The operator squeeze on the CPU.
#include <cmath>
#include <optional>
#include <tuple>

#include "../shared/arguments.h"
#include "features.h"
#include "layers.h"

namespace bam_fused::cpu {
namespace {

// (N, R, H, W) of x's dtype with these rows.
Tensor empty_reduced(const Tensor& x, int64_t outputs, Rows rows) {
  using torch::headeronly::MemoryFormat;
  return torch::stable::empty(
      {x.size(0), outputs, x.size(2), x.size(3)}, x.scalar_type(), std::nullopt, x.device(), std::nullopt,
      rows == Rows::positions ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// The rows of the reduction: those in which a 1x1 convolution of x comes.
Rows rows_of_reduced(const Tensor& x) {
  return x.size(1) > 1 && x.size(2) * x.size(3) > 1 && x.stride(1) == 1 ? Rows::positions : Rows::channels;
}

// Both in the compute type, the reduction channels_last: as the branches of a training step take them.
struct Results {
  Tensor pooled, reduced;
};

Results features_results(const Tensor& x, int64_t outputs) {
  using torch::headeronly::MemoryFormat;
  return {
      workspace(x, {x.size(0), x.size(1)}), torch::stable::empty(
                                                {x.size(0), outputs, x.size(2), x.size(3)}, compute_dtype(x),
                                                std::nullopt, x.device(), std::nullopt, MemoryFormat::ChannelsLast)};
}

std::tuple<Tensor, Tensor> squeeze(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, bool features) {
  check_squeeze(x, weight, bias);
  const int64_t samples = x.size(0), outputs = weight.size(0);
  auto [pooled, reduced] =
      features
          ? features_results(x, outputs)
          : Results{torch::stable::new_empty(x, {samples, x.size(1)}), empty_reduced(x, outputs, rows_of_reduced(x))};
  if (x.numel() == 0) return {torch::stable::fill_(pooled, std::nan("")), reduced};  // the mean of nothing
  const FeatureMap map({&x});
  SqueezeArguments a = squeeze_arguments(map, x, outputs);
  const View read = map.readable(x);
  const bool fits = features || strides_of(reduced, map.rows).any();
  const Tensor written = fits ? reduced : empty_reduced(x, outputs, map.rows);
  const Tensor packed = packed_weight(x, weight, pairs_of_inputs(x));
  Workspace space(x);
  const Tensor sums = workspace(x, {samples, a.tiles, a.channels});
  a.x = read.map;
  a.weight.data = packed.const_data_ptr();
  a.finish = bias_alone(x, bias, outputs, false, space);
  a.pool_partials = {sums.data_ptr(), a.tiles * a.channels * compute_bytes(x)};
  if (!features) {
    strides_of(written, map.rows).match([&](Strides strides) { a.reduced = {written.data_ptr(), strides}; }, [] {});
  }
  const Features as_features = features ? features_to_write(reduced) : Features{};
  a.features = as_features.each;
  for_tiles(a, dtype_of(x), samples * a.parts(), x.numel());
  if (!fits) torch::stable::copy_(reduced, written);
  if (features) finish_features(as_features, reduced);
  sum_partials(x, sums, pooled, samples, a.tiles, 1.0 / static_cast<double>(a.positions));
  return {pooled, reduced};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) { m.impl("squeeze.compiled", TORCH_BOX(&bam_fused::cpu::squeeze)); }
