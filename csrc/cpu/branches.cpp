// The operator branches on the CPU: both branches of a BAM in a training step, from pooled vector and reduction to the
// logits.
#include "branches.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "kernels/bam.h"
#include "layers.h"

namespace bam_fused::cpu {
namespace {

class TensorReader {
 public:
  TensorReader(const Tensor& like, const std::vector<Tensor>& tensors) : like_(like), tensors_(tensors) {}

  int64_t read() const { return read_; }

  // size 0: no weight and no bias, as many outputs as inputs.
  BranchLayer layer(int64_t has, double eps, int64_t inputs, int64_t size, int64_t dilation) {
    BranchLayer layer{{}, {}, {}, inputs, inputs, dilation, read_};
    if (size > 0) {
      const Tensor& w = next();
      const bool matrix = w.dim() == 2 && size == 1;
      require(
          (matrix || (w.dim() == 4 && w.size(2) == size && w.size(3) == size)) && w.size(0) > 0 && w.size(1) == inputs,
          "layers do not fit each other");
      layer.weight = w;
      layer.outputs = w.size(0);
    }
    NormLayer& norm = layer.norm;
    norm.eps = eps;
    norm.relu = (has & kRelu) != 0;
    norm.batch = (has & kBatch) != 0;
    require(size > 0 || !(has & kBias), "the reduction's bias is not the branches'");
    if (has & kBias) layer.bias = vector(layer.outputs);
    if (has & kNorm) norm.mean = vector(layer.outputs), norm.variance = vector(layer.outputs);
    if (has & kAffine) norm.gain = vector(layer.outputs), norm.offset = vector(layer.outputs);
    return layer;
  }

 private:
  const Tensor& next() {
    require(read_ < static_cast<int64_t>(tensors_.size()), "tensors are too few for these layers");
    const Tensor& t = tensors_[static_cast<size_t>(read_++)];
    require(t.device() == like_.device(), "tensors must be on pooled's device");
    return t;
  }

  Tensor vector(int64_t length) {
    const Tensor& t = next();
    require(t.dim() == 1 && t.size(0) == length, "layers do not fit each other");
    return t;
  }

  const Tensor& like_;
  const std::vector<Tensor>& tensors_;
  int64_t read_ = 0;
};

}  // namespace

Branches read_branches(
    const Tensor& pooled, const Tensor& reduced, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers,
    int64_t channel_layers, const std::vector<int64_t>& dilations, const std::vector<double>& eps) {
  check_feature_map(reduced);
  require(pooled.dim() == 2 && pooled.size(0) == reduced.size(0), "pooled must be (N, C) with N of reduced");
  require(pooled.scalar_type() == reduced.scalar_type(), "pooled and reduced must have one dtype");
  const int64_t count = static_cast<int64_t>(layers.size());
  require(
      channel_layers > 0 && count - channel_layers == static_cast<int64_t>(dilations.size()) + 2 &&
          static_cast<int64_t>(eps.size()) == count,
      "layers, dilations and eps do not fit each other");
  Branches branches;
  TensorReader reader(pooled, tensors);
  int64_t inputs = pooled.size(1);
  for (int64_t i = 0; i < count; ++i) {
    const size_t at = static_cast<size_t>(i);
    const int64_t position = i - channel_layers;
    const bool channel = position < 0, last = i + 1 == count, hidden = position > 0 && !last;
    if (position == 0) inputs = reduced.size(1);
    const int64_t dilation = hidden ? dilations[static_cast<size_t>(position - 1)] : 1;
    require(dilation > 0, "dilations must be positive");
    auto& branch = channel ? branches.channel : branches.spatial;
    branch.push_back(reader.layer(layers[at], eps[at], inputs, position == 0 ? 0 : hidden ? 3 : 1, dilation));
    const int64_t values = channel ? reduced.size(0) : reduced.size(0) * reduced.size(2) * reduced.size(3);
    require(!branch.back().norm.batch || values > 1, "a norm over the batch must have more than one value");
    inputs = branch.back().outputs;
  }
  require(reader.read() == static_cast<int64_t>(tensors.size()), "tensors are too many for these layers");
  require(branches.channel.back().outputs == pooled.size(1), "the channel branch must end in C logits");
  require(inputs == 1, "the spatial branch must end in one channel");
  return branches;
}

KeptLayers kept_layers(const Branches& branches, const Tensor& pooled, const Tensor& reduced, void* memory) {
  const int64_t bytes = compute_bytes(pooled), unit = 64 / bytes;
  const int64_t samples = reduced.size(0), positions = reduced.size(2) * reduced.size(3);
  KeptLayers all{{}, {}, 0};
  const auto lines = [&](int64_t numbers) { return (numbers + unit - 1) / unit * unit; };
  const auto take = [&](int64_t numbers) {
    char* at = static_cast<char*>(memory) + all.numbers * bytes;
    all.numbers += lines(numbers);
    return at;
  };
  const auto keep = [&](const BranchLayer& layer, int64_t numbers, int64_t columns) {
    char* before = take(numbers);
    return Kept{before, {take(4 * lines(columns)), lines(columns) * bytes}};
  };
  for (const BranchLayer& layer : branches.channel) {
    const bool ends = &layer == &branches.channel.back() && !layer.norm.follows();
    all.channel.push_back(keep(layer, ends ? 0 : samples * layer.outputs, layer.outputs));
  }
  for (const BranchLayer& layer : branches.spatial) {
    const bool first = &layer == &branches.spatial.front(), last = &layer == &branches.spatial.back();
    const int64_t before = first || (last && !layer.norm.follows()) ? 0
                           : last                                   ? samples * positions
                                                                    : samples * positions * lines(layer.outputs);
    all.spatial.push_back(keep(layer, before, last ? kMostFolds : layer.outputs));
  }
  return all;
}

namespace {

// A forward in the making.
class BranchesForward {
 public:
  BranchesForward(const Branches& branches, const Tensor& pooled, const Tensor& reduced)
      : branches_(branches),
        pooled_(pooled),
        reduced_(reduced),
        samples_(reduced.size(0)),
        positions_(reduced.size(2) * reduced.size(3)),
        space_(pooled) {
    saved = workspace(pooled, {kept_layers(branches, pooled, reduced, nullptr).numbers});
    kept_ = kept_layers(branches, pooled, reduced, saved.data_ptr());
    clear_gaps();
    int64_t normed = 0;
    for (const auto* branch : {&branches.channel, &branches.spatial}) {
      for (const BranchLayer& layer : *branch) normed += layer.norm.batch ? layer.outputs : 0;
    }
    statistics = torch::stable::new_empty(pooled, {2, normed}, ScalarType::Double);
    channel_logits = workspace(pooled, {samples_, pooled.size(1)});
    spatial_logits = workspace(pooled, {samples_, 1, reduced.size(2), reduced.size(3)});
  }

  void run() {
    run_channel();
    run_spatial();
  }

  Tensor channel_logits, spatial_logits, saved, statistics;

 private:
  // What is saved has the same bits in every run: zeros where rows or vectors fill no line. Vectors follow what they
  // are of.
  void clear_gaps() {
    const int64_t unit = kLine / compute_bytes(pooled_);
    const auto& spatial = branches_.spatial;
    if (std::any_of(spatial.begin(), spatial.end() - 1, [&](const BranchLayer& l) { return l.outputs % unit != 0; })) {
      torch::stable::zero_(saved);
    }
    for (const auto* branch : {&kept_.channel, &kept_.spatial}) {
      for (const Kept& kept : *branch) {
        const int64_t last_line = kept.before == kept.vectors.memory ? 0 : kLine;
        std::memset(kept.vectors.memory - last_line, 0, static_cast<size_t>(last_line + 4 * kept.vectors.bytes));
      }
    }
  }

  void run_channel() {
    const Tensor first = as_compute_dtype(pooled_, pooled_);
    const void* in = first.const_data_ptr();
    for (size_t i = 0; i < branches_.channel.size(); ++i) {
      const BranchLayer& layer = branches_.channel[i];
      const bool last = i + 1 == branches_.channel.size(), follows = layer.norm.follows();
      void* out = last ? channel_logits.data_ptr() : space_.take(samples_ * layer.outputs);
      void* before = follows || !last ? kept_.channel[i].before : out;
      ChannelLayerArguments a{};
      a.inputs = layer.inputs;
      a.outputs = layer.outputs;
      a.part_outputs = 64;
      a.parts = (a.outputs + a.part_outputs - 1) / a.part_outputs;
      const Tensor weight = as_compute_dtype(*layer.weight, pooled_);
      a.weight = weight.const_data_ptr();
      a.finish = bias_alone(pooled_, layer.bias, layer.outputs, false, space_);
      a.in = in;
      a.out = before;
      // The kernel of the compute type, in which the weight is.
      for_tiles(a, computed_dtype(pooled_), samples_ * a.parts, samples_ * a.inputs * a.outputs);
      finish(
          layer, normed_rows(1, samples_, layer.outputs, layer.outputs), kept_.channel[i], one_sample(before),
          one_sample(out));
      in = out;
    }
  }

  void run_spatial() {
    const Features reduction = features_of(reduced_);
    const BranchLayer& first = branches_.spatial.front();
    settle(first, rows_of(first), kept_.spatial.front(), reduction.each);
    const auto input = [&](size_t i) {
      return spatial_input(branches_, kept_, pooled_, reduction.each, positions_, i);
    };
    const size_t last = branches_.spatial.size() - 1;
    for (size_t i = 1; i < last; ++i) convolve_layer(branches_.spatial[i], kept_.spatial[i], input(i));
    run_last(input(last));
  }

  void convolve_layer(const BranchLayer& layer, const Kept& kept, const LayerInput& in) {
    const ConvShape shape{samples_, reduced_.size(2), reduced_.size(3), layer.inputs, layer.outputs, layer.dilation};
    const Tensor packed = packed_weight(pooled_, *layer.weight, Pairs::none);
    const bool relu = layer.norm.relu && !layer.norm.normalises();
    const Finish ending = bias_alone(pooled_, layer.bias, layer.outputs, relu, space_);
    const PerSample before = kept_features(pooled_, kept, positions_, layer.outputs);
    const NormedRows rows = rows_of(layer);
    ConvSums sums;
    if (layer.norm.batch) sums.statistics = statistics_sums(rows, before, space_);
    Features made;
    PerSample features = in.features;
    if (in.finish.scale) {
      made = empty_features(pooled_, samples_, layer.inputs, positions_);
      features = made.each;
      normalise(pooled_, spatial_rows(pooled_, reduced_, layer.inputs), in.finish, in.features, features);
    }
    const ConvFeatures data{features, padded(pooled_, layer.inputs), before};
    // In the compute type, whatever the weight is: a pre-activation that is rounded may change its sign, and a ReLU
    // that opens for it costs the gradients more than all other rounding.
    convolve(computed_dtype(pooled_), shape, packed.const_data_ptr(), ending, data, sums);
    set_layer(layer, rows, kept, sums.statistics);
  }

  void run_last(const LayerInput& in) {
    const BranchLayer& layer = branches_.spatial.back();
    const Kept& kept = kept_.spatial.back();
    SpatialLogitsArguments a{};
    a.positions = positions_;
    a.inputs = layer.inputs;
    a.part_positions = 128;
    a.parts = (positions_ + a.part_positions - 1) / a.part_positions;
    a.weight = padded_row(pooled_, *layer.weight, space_);
    a.finish = bias_alone(pooled_, layer.bias, 1, false, space_);
    a.in = in.features;
    a.in_finish = in.finish;
    a.out = layer.norm.follows() ? kept.before : spatial_logits.data_ptr();
    for_tiles(a, computed_dtype(pooled_), samples_ * a.parts, samples_ * positions_ * layer.inputs);
    const NormedRows rows = folded_rows(samples_ * positions_);
    finish(layer, rows, kept, one_sample(a.out), one_sample(spatial_logits.data_ptr()));
  }

  // What follows a layer; nothing where `in` and `out` are the same.
  void finish(
      const BranchLayer& layer, const NormedRows& rows, const Kept& kept, const PerSample& in, const PerSample& out) {
    settle(layer, rows, kept, in);
    if (in.data != out.data) normalise(pooled_, rows, kept.vectors.finish(layer.norm), in, out);
  }

  // The vectors of what follows a layer, whose result is `in`.
  void settle(const BranchLayer& layer, const NormedRows& rows, const Kept& kept, const PerSample& in) {
    NormStatisticsArguments sums{};
    if (layer.norm.batch) {
      sums = statistics_sums(rows, in, space_);
      take(pooled_, rows, sums);
    }
    set_layer(layer, rows, kept, sums);
  }

  void set_layer(
      const BranchLayer& layer, const NormedRows& rows, const Kept& kept, const NormStatisticsArguments& taken) {
    Statistics batch;
    if (layer.norm.batch) {
      batch = batch_statistics(pooled_, rows, taken);
      note(batch, static_cast<double>(rows.values()));
    }
    set_vectors(pooled_, layer.norm, rows, batch, kept.vectors);
  }

  void note(const Statistics& batch, double values) {
    double* mean = static_cast<double*>(statistics.data_ptr()) + noted_;
    double* variance = mean + statistics.size(1);
    for (size_t c = 0; c < batch.mean.size(); ++c) {
      mean[c] = batch.mean[c];
      variance[c] = batch.squares[c] / (values - 1);
    }
    noted_ += static_cast<int64_t>(batch.mean.size());
  }

  NormedRows rows_of(const BranchLayer& layer) { return spatial_rows(pooled_, reduced_, layer.outputs); }

  const Branches& branches_;
  const Tensor &pooled_, &reduced_;
  const int64_t samples_, positions_;
  KeptLayers kept_;
  int64_t noted_ = 0;
  Workspace space_;
};

std::tuple<Tensor, Tensor, Tensor, Tensor> branches(
    const Tensor& pooled, const Tensor& reduced, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers,
    int64_t channel_layers, const std::vector<int64_t>& dilations, const std::vector<double>& eps) {
  const Branches read = read_branches(pooled, reduced, tensors, layers, channel_layers, dilations, eps);
  BranchesForward forward(read, pooled, reduced);
  forward.run();
  return {forward.channel_logits, forward.spatial_logits, forward.saved, forward.statistics};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) { m.impl("branches.compiled", TORCH_BOX(&bam_fused::cpu::branches)); }
