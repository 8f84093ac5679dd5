#include "layers.h"

#include <algorithm>
#include <cmath>

#include "kernels/pack_weight.h"

namespace bam_fused::cpu {

int64_t padded(const Tensor& x, int64_t length) {
  const int64_t lanes = vector_bytes() / (compute_dtype(x) == ScalarType::Double ? 8 : 4);
  return (length + lanes - 1) / lanes * lanes;
}

Tensor packed_weight(const Tensor& x, const Tensor& weight, int64_t outputs, int64_t inputs, int64_t taps) {
  const Tensor given = as_compute_dtype(weight, x);
  Tensor packed = workspace(x, {taps, inputs, padded(x, outputs)});
  const PackArguments arguments{given.const_data_ptr(), packed.data_ptr(), outputs, inputs, taps};
  for_tiles(arguments, dtype_of(x), inputs, packed.numel());
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

Tensor packed_row(const Tensor& x, const Tensor& weight) {
  Tensor row = filled(x, weight.size(1), 0.0);
  Tensor numbers = torch::stable::narrow(row, 0, 0, weight.size(1));
  torch::stable::copy_(numbers, torch::stable::reshape(weight, {weight.size(1)}));
  return row;
}

namespace {

template <class A>
void write_finish(const BamLayer& layer, const Tensor& x, A* scale, A* shift) {
  const auto numbers = [&](const std::optional<Tensor>& t) { return t ? as_compute_dtype(*t, x) : Tensor(); };
  const Tensor bias = numbers(layer.bias), mean = numbers(layer.mean), variance = numbers(layer.variance);
  const Tensor gain = numbers(layer.gain), offset = numbers(layer.offset);
  const auto at = [](const std::optional<Tensor>& given, const Tensor& t, int64_t o, double otherwise) {
    return given ? static_cast<double>(static_cast<const A*>(t.const_data_ptr())[o]) : otherwise;
  };
  for (int64_t o = 0; o < layer.outputs(); ++o) {
    const double deviation = layer.mean ? std::sqrt(at(layer.variance, variance, o, 1) + layer.eps) : 1.0;
    const double factor = at(layer.gain, gain, o, 1) / deviation;
    scale[o] = static_cast<A>(factor);
    shift[o] = static_cast<A>(
        (at(layer.bias, bias, o, 0) - at(layer.mean, mean, o, 0)) * factor + at(layer.offset, offset, o, 0));
  }
}

}  // namespace

Tensor finish_of(const Tensor& x, const BamLayer& layer) {
  const int64_t row = padded(x, layer.outputs());
  const Tensor both = filled(x, 2 * row, 0.0);
  if (compute_dtype(x) == ScalarType::Double) {
    double* scale = static_cast<double*>(both.data_ptr());
    write_finish(layer, x, scale, scale + row);
  } else {
    float* scale = static_cast<float*>(both.data_ptr());
    write_finish(layer, x, scale, scale + row);
  }
  return both;
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
  const int64_t most = a.rows_are_channels ? kMostTilePositions : kMostTilePositions / 2,
                unit = a.rows_are_channels ? 8 : 1;
  const auto split = [](int64_t length, int64_t size) { return (length + size - 1) / size; };
  const int64_t tiles = std::max(split(a.positions, most), std::min<int64_t>(4, split(a.positions, 16)));
  a.tile_positions = split(split(a.positions, tiles), unit) * unit;
  a.tiles = split(a.positions, a.tile_positions);
  return a;
}

}  // namespace bam_fused::cpu
