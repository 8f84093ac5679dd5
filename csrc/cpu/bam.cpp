// The operator bam on the CPU: a whole BAM in inference, sample by sample on a core while x is in its cache.
//
// Its steps are cut into parts of a sample. What a part computes does not depend on who computes it, nor on what else
// is computed.
#include "../shared/bam.h"

#include "../operations/gate.h"
#include "../shared/logits.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/bam.h"
#include "kernels/dilated_conv.h"
#include "kernels/sum_partials.h"
#include "layers.h"
#include "run_tiles.h"
#include "steps.h"

BAM_TILED(GateCall)

namespace bam_fused::cpu {
namespace {

// A call in the making: its steps, and the memory that they need.
class Bam {
 public:
  explicit Bam(const BamCall& call, const Tensor& x)
      : call_(call),
        x_(x),
        samples_(x.size(0)),
        channels_(x.size(1)),
        height_(x.size(2)),
        width_(x.size(3)),
        logits_(workspace(x, {samples_ * (channels_ + height_ * width_)})),
        space_(x) {}

  void run() {
    channel_logits_ = logits_.data_ptr();
    spatial_logits_ = static_cast<char*>(channel_logits_) + samples_ * channels_ * compute_bytes(x_);
    choose_memory();
    add_squeeze();
    call_.channel.empty() ? fill(channel_logits_, channels_) : add_channel_branch();
    call_.spatial.empty() ? fill(spatial_logits_, height_ * width_) : add_spatial_branch();
    add_gate();
    run_steps();
  }

 private:
  // As many samples as there are threads side by side, what is left over by all of them.
  void run_steps() {
    const auto alone = [&](int64_t begin, int64_t end) { steps_.run_alone(begin, end, behind(end - 1)); };
    if (alone_ > 0) threads_ == 1 ? alone(0, alone_) : torch::stable::parallel_for(0, alone_, 1, alone);
    if (alone_ == samples_) return;
    Span room = alone_ > 0 ? behind(samples_ - 1) : space_.rest();
    const int64_t most = steps_.cut(room.bytes);
    if (most > room.bytes) room = {static_cast<char*>(space_.take(most / compute_bytes(x_))), most};
    steps_.run_together(alone_, samples_, room, threads_ > 1);
  }

  template <class Arguments> void add(const Arguments& arguments, int64_t parts) {
    const auto kernel = kernel_for<Arguments>(dtype_of(x_));
    steps_.add(parts, [=](const PackedWeight&, int64_t begin, int64_t end) { kernel(arguments, begin, end); });
  }

  template <class Arguments> void add_packed(const Arguments& arguments, size_t packing, int64_t parts) {
    const auto kernel = kernel_for<Arguments>(dtype_of(x_));
    const auto run = [=](const PackedWeight& weight, int64_t begin, int64_t end) {
      Arguments a = arguments;
      a.weight = weight;
      kernel(a, begin, end);
    };
    steps_.add_packed(parts, run, packing);
  }

  void fill(void* logits, int64_t numbers) const {
    std::memset(logits, 0, static_cast<size_t>(samples_ * numbers * compute_bytes(x_)));
  }

  // Where the output will be, which is written last, lies what is dead by then: the features of a sample, and the sums
  // of its pool, which are read before the second features are written (if squeeze does not write these, rounded);
  // behind them packed weights. A thread that runs
  // samples alone has them in each one's output, and all weights in that of its last one, if they fit there. If they do
  // not, or if there is a single sample, the threads go through the steps together, and whatever else the call needs
  // lies in the output, too.
  void choose_memory() {
    use_output();
    const SqueezeArguments squeeze = squeeze_arguments(call_.map, x_, 0);
    tiles_ = squeeze.tiles;
    const int64_t bytes = compute_bytes(x_), pool = lines(tiles_ * channels_ * bytes), features = features_bytes();
    const bool pairs = hands_on_pairs(0);
    const int64_t second = call_.dilations.empty() ? 0 : features;
    own_ = features + (pairs ? second + pool : std::max(second, pool));
    add_packings(squeeze.tile_positions);
    threads_ = x_.numel() <= kWorthAThread ? 1 : torch::stable::get_num_threads();
    if (samples_ > 1 && own_ + steps_.packed_bytes() <= output_.bytes) alone_ = samples_ / threads_ * threads_;
    PerSample own{output_.begin, output_.bytes};
    if (alone_ == 0) {
      space_.use({output_.begin, samples_ * output_.bytes});
      own = {space_.take(samples_ * own_ / bytes), own_};
    }
    const auto from = [&](int64_t byte) { return PerSample{static_cast<char*>(own.data) + byte, own.sample_bytes}; };
    features_[0] = own;
    features_[1] = from(features);
    pool_ = from(pairs ? features + second : features);
  }

  // If its samples follow each other in memory, each from a new line on.
  void use_output() {
    const int64_t numbers = channels_ * height_ * width_, bytes = numbers * x_.element_size();
    const bool dense = samples_ == 1 || call_.out.strides.sample == numbers;
    const bool aligned = bytes % kLine == 0 && reinterpret_cast<uintptr_t>(call_.out.data) % kLine == 0;
    if (dense && aligned) output_ = {static_cast<char*>(call_.out.data), bytes};
  }

  int64_t features_bytes() const {
    int64_t widest = 0;
    for (size_t i = 0; i + 1 < call_.spatial.size(); ++i) widest = std::max(widest, call_.spatial[i].outputs());
    return lines(height_ * width_ * padded(x_, widest) * compute_bytes(x_));
  }

  void add_packings(int64_t tile_positions) {
    const Pairs pairs = pairs_of_inputs(x_);
    const bool whole_blocks = tile_positions * kHalfBlockDepth * compute_bytes(x_) <= kSqueezeBlockBytes;
    const bool can_cut = channels_ % (multiplies_pairs(x_) ? 2 * kBlockDepth : kBlockDepth) == 0 && whole_blocks;
    for (size_t i = 0; i + 1 < call_.spatial.size(); ++i) {
      steps_.add_packing(Packing(x_, call_.spatial[i].weight, pairs, can_cut ? kBlockDepth : channels_));
    }
  }

  // Whether a 3x3 convolution, whose factors are pairs, comes behind so many others.
  bool hands_on_pairs(size_t convolutions) const {
    return multiplies_pairs(x_) && convolutions < call_.dilations.size();
  }

  // The rest of a sample's output.
  Span behind(int64_t sample) const { return {output_.begin + sample * output_.bytes + own_, output_.bytes - own_}; }

  void add_squeeze() {
    const int64_t outputs = call_.spatial.empty() ? 0 : call_.spatial[0].outputs();
    SqueezeArguments a = squeeze_arguments(call_.map, x_, outputs);
    if (call_.crops) a.pooled_width = height_;
    a.x = call_.x;
    a.pool_partials = pool_;
    if (outputs > 0) {
      a.finish = finish_of(x_, call_.spatial[0], space_);
      a.features = features_[0];
      if (hands_on_pairs(0)) a.rounded = features_[1], a.rounded_row = 2 * padded(x_, outputs);
      add_packed(a, 0, a.parts());
    } else {
      add(a, a.parts());
    }
  }

  void add_channel_branch() {
    void* in = space_.take(samples_ * channels_);
    add_pool(in);
    for (size_t i = 0; i < call_.channel.size(); ++i) {
      const BamLayer& layer = call_.channel[i];
      const bool last = i + 1 == call_.channel.size();
      weights_as_given_.push_back(readable_weight(layer.weight, x_));
      ChannelLayerArguments a{};
      a.inputs = layer.inputs();
      a.outputs = layer.outputs();
      a.part_outputs = 64;
      a.parts = (a.outputs + a.part_outputs - 1) / a.part_outputs;
      a.weight = weights_as_given_.back().const_data_ptr();
      a.finish = finish_of(x_, layer, space_);
      a.in = in;
      a.out = last ? channel_logits_ : space_.take(samples_ * layer.outputs());
      in = a.out;
      const auto kernel = kernel_for<ChannelLayerArguments>(dtype_of(weights_as_given_.back()));
      steps_.add(a.parts, [=](const PackedWeight&, int64_t begin, int64_t end) { kernel(a, begin, end); });
    }
  }

  // The mean of each channel, from the sums over the tiles of squeeze.
  void add_pool(void* pooled) {
    const double numbers = static_cast<double>(height_ * (call_.crops ? height_ : width_));
    const SumPartialsArguments of_one{nullptr, nullptr, computed_dtype(x_), 1, tiles_, channels_, 1.0 / numbers};
    const auto kernel = kernel_for<SumPartialsArguments>(dtype_of(x_));
    const PerSample sums = pool_, out{pooled, channels_ * compute_bytes(x_)};
    steps_.add(1, [=](const PackedWeight&, int64_t begin, int64_t end) {
      for (int64_t sample = begin; sample < end; ++sample) {
        SumPartialsArguments a = of_one;
        a.in = sums.at(sample);
        a.out = out.at(sample);
        kernel(a, 0, 1);
      }
    });
  }

  void add_spatial_branch() {
    constexpr int64_t most_parts = 8;
    const int64_t part_rows = (height_ + most_parts - 1) / most_parts, parts = (height_ + part_rows - 1) / part_rows;
    size_t here = hands_on_pairs(0) ? 1 : 0;
    for (size_t i = 0; i < call_.dilations.size(); ++i) {
      const BamLayer& layer = call_.spatial[i + 1];
      DilatedConvArguments a{};
      a.height = height_;
      a.width = width_;
      a.inputs = layer.inputs();
      a.outputs = layer.outputs();
      a.dilation = call_.dilations[i];
      a.part_rows = part_rows;
      a.parts = parts;
      a.finish = finish_of(x_, layer, space_);
      a.in = features_[here];
      a.in_row = padded(x_, a.inputs);
      a.out = features_[1 - here];
      if (hands_on_pairs(i + 1)) a.rounded = a.out, a.rounded_row = 2 * padded(x_, a.outputs);
      add_packed(a, i + 1, parts);
      here = 1 - here;
    }
    const BamLayer& layer = call_.spatial.back();
    SpatialLogitsArguments a{};
    a.positions = height_ * width_;
    a.inputs = layer.inputs();
    a.part_positions = part_rows * width_;
    a.parts = parts;
    a.weight = padded_row(x_, layer.weight, space_);
    a.finish = finish_of(x_, layer, space_);
    a.in = features_[here];
    a.out = spatial_logits_;
    add(a, parts);
  }

  void add_gate() {
    const FeatureMap& map = call_.map;
    const Extent extent = extent_of(map);
    const Dtype dtype = dtype_of(x_);
    const Tiling tiling = tiling_of(extent, dtype);
    const bool float32 = dtype != Dtype::float64;
    const Logits channel{channel_logits_, channels_, 1, float32},
        spatial{spatial_logits_, height_ * width_, 1, float32};
    const auto logits = sides(map, channel, spatial);
    const GateCall call{extent, dtype, call_.combine, call_.x, call_.out, logits.row, logits.column};
    add(Tiled<GateCall>{call, tiling, nullptr, nullptr}, tiling.row_tiles * tiling.column_tiles);
  }

  const BamCall& call_;
  const Tensor& x_;
  const int64_t samples_, channels_, height_, width_;
  Tensor logits_;
  Workspace space_;
  void *channel_logits_ = nullptr, *spatial_logits_ = nullptr;  // [samples, channels], [samples, positions]
  int64_t threads_ = 1, alone_ = 0;                             // how many samples single threads run
  Span output_;                                                 // of the first sample; empty if not to be used
  int64_t own_ = 0;                                             // bytes that a sample's features and sums take
  PerSample features_[2] = {}, pool_ = {};
  int64_t tiles_ = 0;  // of squeeze, per sample
  std::vector<Tensor> weights_as_given_;
  Steps steps_;
};

Tensor bam(
    const Tensor& x, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers, int64_t channel_layers,
    const std::vector<int64_t>& dilations, const std::vector<double>& eps, const std::string& combine, bool crops) {
  return bam_fused::bam(x, tensors, layers, channel_layers, dilations, eps, combine, crops, [&](const BamCall& call) {
    Bam(call, x).run();
  });
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) { m.impl("bam.compiled", TORCH_BOX(&bam_fused::cpu::bam)); }
