#include "layers.h"

#include <algorithm>

namespace bam_fused::cpu {

int64_t padded(const Tensor& x, int64_t length) {
  const int64_t lanes = kernels().vector_bytes / (compute_dtype(x) == ScalarType::Double ? 8 : 4);
  return (length + lanes - 1) / lanes * lanes;
}

Tensor packed_weight(const Tensor& x, const Tensor& weight, int64_t outputs, int64_t inputs, int64_t taps) {
  const Tensor given = as_compute_dtype(weight, x);
  Tensor packed = workspace(x, {taps, inputs, padded(x, outputs)});
  const PackArguments arguments{given.const_data_ptr(), packed.data_ptr(), outputs, inputs, taps};
  for_tiles(kernels().pack_weight[dtype_of(x)], arguments, inputs, packed.numel());
  return packed;
}

Tensor filled(const Tensor& x, int64_t length, double value) {
  Tensor all = workspace(x, {padded(x, length)});
  if (compute_dtype(x) == ScalarType::Double) {
    std::fill_n(static_cast<double*>(all.data_ptr()), all.numel(), value);
  } else {
    std::fill_n(static_cast<float*>(all.data_ptr()), all.numel(), static_cast<float>(value));
  }
  return all;
}

SqueezeArguments squeeze_arguments(const FeatureMap& map, const Tensor& x, int64_t outputs) {
  const Shape& shape = map.shape;
  SqueezeArguments a{};
  a.channels = shape.channels;
  a.positions = shape.positions;
  a.outputs = outputs;
  a.width = a.pooled_width = x.size(3);
  a.rows_are_channels = map.rows_are_channels();
  // Long runs of each channel where rows are channels, short enough for the cache where rows are positions; at least four tiles
  // in a small map, for so many threads.
  const int64_t most = a.rows_are_channels ? kMostTilePositions : kMostTilePositions / 2, unit = a.rows_are_channels ? 8 : 1;
  const auto split = [](int64_t length, int64_t size) { return (length + size - 1) / size; };
  const int64_t tiles = std::max(split(a.positions, most), std::min<int64_t>(4, split(a.positions, 16)));
  a.tile_positions = split(split(a.positions, tiles), unit) * unit;
  a.tiles = split(a.positions, a.tile_positions);
  return a;
}

}  // namespace bam_fused::cpu
