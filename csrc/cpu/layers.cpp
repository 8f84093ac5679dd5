#include "layers.h"

#include <algorithm>
#include <cmath>

#include "kernels/pack_weight.h"

namespace bam_fused::cpu {

int64_t compute_bytes(const Tensor& x) { return is_float64(x) ? 8 : 4; }

Dtype computed_dtype(const Tensor& x) { return is_float64(x) ? Dtype::float64 : Dtype::float32; }

bool multiplies_pairs(const Tensor& x) {
  return x.scalar_type() == ScalarType::BFloat16 && instruction_set() == InstructionSet::avx512_bf16;
}

int64_t padded(const Tensor& x, int64_t length) {
  const int64_t lanes = vector_bytes() / compute_bytes(x);
  return (length + lanes - 1) / lanes * lanes;
}

Tensor readable_weight(const Tensor& weight, const Tensor& x) {
  return weight.scalar_type() == x.scalar_type() && weight.is_contiguous() ? weight : as_compute_dtype(weight, x);
}

namespace {

int64_t taps_of(const Tensor& weight) { return weight.dim() == 4 ? weight.size(2) * weight.size(3) : 1; }

// Channels_last, in memory [outputs, taps, inputs].
bool has_taps_outside(const Tensor& weight) {
  const int64_t inputs = weight.size(1), taps = taps_of(weight);
  return taps > 1 && weight.stride(1) == 1 && weight.stride(3) == inputs &&
         weight.stride(2) == weight.size(3) * inputs && weight.stride(0) == taps * inputs;
}

}  // namespace

Packing::Packing(const Tensor& x, const Tensor& weight, Pairs pairs, int64_t unit)
    : weight_(weight), inputs_(pairs == Pairs::of_inputs ? 2 : 1) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1), taps = taps_of(weight), row = padded(x, outputs);
  if (has_taps_outside(weight) && weight.scalar_type() == x.scalar_type() && inputs % inputs_ == 0) {
    // The order of inputs is that of the packed.
    arguments_ = {weight.const_data_ptr(), nullptr, outputs, taps * inputs, 1, pairs};
  } else {
    weight_ = readable_weight(weight, x);
    arguments_ = {weight_.const_data_ptr(), nullptr, outputs, inputs, taps, pairs};
  }
  const bool by_inputs = taps == 1;
  const int64_t depth = split(inputs, inputs_);
  bytes_ = (by_inputs ? row : taps * depth) * compute_bytes(x) / (pairs == Pairs::of_outputs ? 2 : 1);
  length_ = part_ = by_inputs ? depth : row;
  unit_ = by_inputs ? unit : padded(x, 1);
}

void Packing::cut(int64_t room) {
  part_ = length_ * bytes_ <= room ? length_ : room / (unit_ * bytes_) * unit_;
  if (part_ == 0) part_ = length_;
}

Packing::Part Packing::part(void* packed, int64_t index) const {
  const int64_t first = index * part_, count = std::min(part_, length_ - first), outputs = arguments_.outputs;
  PackArguments a = arguments_;
  a.packed = packed;
  const char* weight = static_cast<const char*>(a.weight);
  const Dtype dtype = dtype_of(weight_);
  if (taps_of(weight_) == 1) {
    const int64_t input = first * inputs_;
    a.weight = weight + input * weight_.element_size();
    return {a, dtype, count, {packed, input, std::min(count * inputs_, a.inputs - input), 0, outputs}};
  }
  a.weight = weight + first * a.inputs * a.taps * weight_.element_size();
  a.outputs = std::min(count, outputs - first);
  return {a, dtype, split(a.inputs, inputs_), {packed, 0, weight_.size(1), first, a.outputs}};
}

PackedWeight Packing::run(void* packed, int64_t index) const {
  const Part p = part(packed, index);
  kernel_for<PackArguments>(p.dtype)(p.arguments, 0, p.factors);
  return p.weight;
}

Tensor packed_weight(const Tensor& x, const Tensor& weight, Pairs pairs) {
  const Packing packing(x, weight, pairs, weight.size(1));
  const Tensor packed = workspace(x, {packing.part_bytes() / compute_bytes(x)});
  const Packing::Part all = packing.part(packed.data_ptr(), 0);
  for_tiles(all.arguments, all.dtype, all.factors, all.factors * all.arguments.taps * all.arguments.outputs);
  return packed;
}

char* Span::take(int64_t count) {
  count = lines(count);
  if (count > bytes) return nullptr;
  char* piece = begin;
  begin += count;
  bytes -= count;
  return piece;
}

void* Workspace::take(int64_t numbers) {
  constexpr int64_t block = 16384;
  const int64_t bytes = numbers * compute_bytes(x_);
  for (Span* span : {&given_, &left_}) {
    if (void* piece = span->take(bytes)) return piece;
  }
  Span fresh{nullptr, std::max(lines(bytes), block)};
  blocks_.push_back(workspace(x_, {(fresh.bytes + kLine) / compute_bytes(x_)}));
  fresh.begin = reinterpret_cast<char*>(lines(reinterpret_cast<intptr_t>(blocks_.back().data_ptr())));
  void* piece = fresh.take(bytes);
  if (fresh.bytes > left_.bytes) left_ = fresh;
  return piece;
}

namespace {

template <class T>
void read_as(const Tensor& t, int64_t dim, double* to) {
  const T* from = static_cast<const T*>(t.const_data_ptr());
  const int64_t count = t.size(dim), stride = t.stride(dim);
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<double>(from[i * stride]);
}

// The numbers along one dimension, which are all that the tensor has.
void read(const Tensor& t, int64_t dim, double* to) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return read_as<double>(t, dim, to);
    case ScalarType::Float: return read_as<float>(t, dim, to);
    case ScalarType::BFloat16: return read_as<torch::headeronly::BFloat16>(t, dim, to);
    case ScalarType::Half: return read_as<torch::headeronly::Half>(t, dim, to);
    default: {
      const Tensor converted = torch::stable::to(t, ScalarType::Double);
      return read_as<double>(converted, dim, to);
    }
  }
}

template <class A>
void write_row(const std::vector<double>& numbers, A* to, int64_t length) {
  std::fill_n(
      std::transform(numbers.begin(), numbers.end(), to, [](double n) { return static_cast<A>(n); }),
      length - static_cast<int64_t>(numbers.size()), A(0));
}

}  // namespace

const void* padded_numbers(const Tensor& x, const std::vector<double>& numbers, Workspace& space) {
  const int64_t length = padded(x, static_cast<int64_t>(numbers.size()));
  void* row = space.take(length);
  if (is_float64(x)) {
    write_row(numbers, static_cast<double*>(row), length);
  } else {
    write_row(numbers, static_cast<float*>(row), length);
  }
  return row;
}

std::vector<double> numbers_of(const std::optional<Tensor>& vector, int64_t count, double otherwise) {
  std::vector<double> all(static_cast<size_t>(count), otherwise);
  if (vector) read(*vector, 0, all.data());
  return all;
}

const void* padded_row(const Tensor& x, const Tensor& weight, Workspace& space) {
  std::vector<double> numbers(static_cast<size_t>(weight.size(1)));
  read(weight, 1, numbers.data());
  return padded_numbers(x, numbers, space);
}

Finish bias_alone(const Tensor& x, const std::optional<Tensor>& bias, int64_t outputs, bool relu, Workspace& space) {
  return {
      padded_numbers(x, numbers_of({}, outputs, 1.0), space), padded_numbers(x, numbers_of(bias, outputs, 0.0), space),
      relu};
}

Finish finish_of(const Tensor& x, const BamLayer& layer, Workspace& space) {
  const size_t outputs = static_cast<size_t>(layer.outputs());
  const auto numbers = [&](const std::optional<Tensor>& t, double otherwise) {
    return numbers_of(t, layer.outputs(), otherwise);
  };
  std::vector<double> scale = numbers(layer.gain, 1.0), shift = numbers(layer.bias, 0.0);
  const std::vector<double> offset = numbers(layer.offset, 0.0);
  if (layer.mean) {
    const std::vector<double> mean = numbers(layer.mean, 0.0), variance = numbers(layer.variance, 1.0);
    for (size_t o = 0; o < outputs; ++o) {
      scale[o] /= std::sqrt(variance[o] + layer.eps);
      shift[o] -= mean[o];
    }
  }
  for (size_t o = 0; o < outputs; ++o) shift[o] = shift[o] * scale[o] + offset[o];
  return {padded_numbers(x, scale, space), padded_numbers(x, shift, space), layer.relu};
}

SqueezeArguments squeeze_arguments(const FeatureMap& map, const Tensor& x, int64_t outputs) {
  const Shape& shape = map.shape;
  SqueezeArguments a{};
  a.channels = shape.channels;
  a.positions = shape.positions;
  a.outputs = outputs;
  a.weight = {nullptr, 0, shape.channels, 0, outputs};
  a.width = a.pooled_width = x.size(3);
  a.rows_are_channels = map.rows_are_channels();
  // Long runs of each channel where rows are channels, short enough for the cache where rows are positions. A small map
  // is one tile, for which weights are read but once, and may be cut by its outputs, for so many threads; others are
  // cut into at least four tiles.
  constexpr int64_t most_parts = 4, small_map = 64, few_outputs = 32;
  const int64_t most = a.rows_are_channels ? kMostTilePositions : kMostTilePositions / 2,
                unit = a.rows_are_channels ? 8 : 1;
  const bool small = a.positions <= small_map;
  const int64_t tiles = small ? 1 : std::max(split(a.positions, most), most_parts);
  a.tile_positions = split(split(a.positions, tiles), unit) * unit;
  a.tiles = split(a.positions, a.tile_positions);
  a.group_outputs = small ? split(split(outputs, most_parts), few_outputs) * few_outputs : outputs;
  a.groups = split(outputs, std::max<int64_t>(1, a.group_outputs));
  return a;
}

}  // namespace bam_fused::cpu
