// The operator bam on the CPU: a whole BAM in inference, sample by sample on a core while x is in its cache.
//
// The steps below are cut into parts of a sample, so that as many samples as there are threads run side by side, each through
// all steps, and the threads share what samples are left over. What a part computes does not depend on who computes it.
#include "../shared/bam.h"

#include "../operations/gate.h"
#include "../shared/logits.h"

#include <cstring>
#include <functional>
#include <vector>

#include "kernels/bam.h"
#include "kernels/dilated_conv.h"
#include "kernels/sum_partials.h"
#include "layers.h"
#include "run_tiles.h"

BAM_TILED(GateCall)

namespace bam_fused::cpu {
namespace {

// The weights are packed where `weights` points to.
struct Step {
  std::function<void(const char* weights, int64_t begin, int64_t end)> run;  // parts, numbered through all samples
  int64_t parts;                                                             // of one sample
};

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
        space_(x) {}

  void run() {
    channel_logits_ = space_.take(samples_ * channels_);
    spatial_logits_ = space_.take(samples_ * height_ * width_);
    pack_weights();
    const void* sums = add_squeeze();
    call_.channel.empty() ? fill(channel_logits_, channels_) : add_channel_branch(sums);
    call_.spatial.empty() ? fill(spatial_logits_, height_ * width_) : add_spatial_branch();
    add_gate();
    run_steps();
  }

 private:
  void run_steps() const {
    constexpr int64_t worth_a_thread = 32768;
    const int64_t threads = x_.numel() <= worth_a_thread ? 1 : torch::stable::get_num_threads();
    const int64_t alone = samples_ / threads * threads;
    const auto whole = [&](int64_t begin, int64_t end) {
      const char* weights = packed_for(end - 1, &Packing::run);
      for (int64_t sample = begin; sample < end; ++sample) {
        for (const Step& step : steps_) step.run(weights, sample * step.parts, (sample + 1) * step.parts);
      }
    };
    if (threads == 1) return whole(0, samples_);
    if (alone > 0) torch::stable::parallel_for(0, alone, 1, whole);
    if (alone == samples_) return;
    const char* weights = packed_for(samples_ - 1, &Packing::run_parallel);
    for (const Step& step : steps_) {
      torch::stable::parallel_for(alone * step.parts, samples_ * step.parts, 1, [&](int64_t begin, int64_t end) {
        step.run(weights, begin, end);
      });
    }
  }

  int64_t compute_bytes() const { return compute_dtype(x_) == ScalarType::Double ? 8 : 4; }

  template <class Arguments> void add(const Arguments& arguments, int64_t parts) {
    const auto kernel = kernel_for<Arguments>(dtype_of(x_));
    steps_.push_back({[=](const char*, int64_t begin, int64_t end) { kernel(arguments, begin, end); }, parts});
  }

  // Of a step whose weight is among the packed ones.
  template <class Arguments> void add_packed(const Arguments& arguments, int64_t weight, int64_t parts) {
    const auto kernel = kernel_for<Arguments>(dtype_of(x_));
    const auto run = [=](const char* weights, int64_t begin, int64_t end) {
      Arguments a = arguments;
      a.weight = weights + weight;
      kernel(a, begin, end);
    };
    steps_.push_back({run, parts});
  }

  void fill(void* logits, int64_t numbers) const {
    std::memset(logits, 0, static_cast<size_t>(samples_ * numbers * compute_bytes()));
  }

  // Where a sample's output will be, which is written last, lie its features, if there is room. Behind those of the last
  // sample that a thread runs lie the packed weights, a copy for each thread; else one lies in memory of its own.
  void pack_weights() {
    const int64_t line = 64, element = x_.element_size(), sample = channels_ * height_ * width_ * element;
    for (size_t i = 0; i + 1 < call_.spatial.size(); ++i) {
      packings_.emplace_back(x_, call_.spatial[i].weight);
      packed_.push_back(packed_bytes_);
      packed_bytes_ += (packings_.back().numbers() * compute_bytes() + line - 1) / line * line;
    }
    if (packings_.empty()) return;
    const int64_t outputs = padded(x_, call_.spatial[0].outputs());
    const int64_t map = (height_ * width_ * outputs * compute_bytes() + line - 1) / line * line;
    const int64_t features = (call_.dilations.empty() ? 1 : 2) * map;
    const PerSample in_output{call_.out.data, call_.out.strides.sample * element, 0};
    features_[0] = in_output;
    if (line + features > sample) features_[0] = {space_.take(samples_ * features / compute_bytes()), features, 0};
    features_[1] = features_[0];
    features_[1].offset = map;
    weights_ = in_output;
    weights_.offset = line + features > sample ? 0 : features;
    packs_for_each_run_ = line + weights_.offset + packed_bytes_ <= sample;
    if (!packs_for_each_run_) {
      weights_ = {space_.take(packed_bytes_ / compute_bytes()), 0, 0};
      pack(weights_.at(0), &Packing::run_parallel);
    }
  }

  void pack(void* to, void (Packing::*run)(void*) const) const {
    for (size_t i = 0; i < packings_.size(); ++i) (packings_[i].*run)(static_cast<char*>(to) + packed_[i]);
  }

  // The packed weights for a run of samples that ends with this one.
  const char* packed_for(int64_t last_sample, void (Packing::*run)(void*) const) const {
    void* weights = weights_.at(last_sample);
    if (packs_for_each_run_) pack(weights, run);
    return static_cast<const char*>(weights);
  }

  const void* add_squeeze() {
    const int64_t outputs = call_.spatial.empty() ? 0 : call_.spatial[0].outputs();
    SqueezeArguments a = squeeze_arguments(call_.map, x_, outputs);
    if (call_.crops) a.pooled_width = height_;
    a.x = call_.x;
    a.pool_partials = space_.take(samples_ * a.tiles * channels_);
    tiles_ = a.tiles;
    if (outputs > 0) {
      a.finish = finish_of(x_, call_.spatial[0], space_);
      a.features = features_[0];
      add_packed(a, packed_[0], a.tiles);
    } else {
      add(a, a.tiles);
    }
    return a.pool_partials;
  }

  void add_channel_branch(const void* sums) {
    const int64_t pooled = height_ * (call_.crops ? height_ : width_);
    const Dtype dtype = compute_dtype(x_) == ScalarType::Double ? Dtype::float64 : Dtype::float32;
    void* in = space_.take(samples_ * channels_);
    add(SumPartialsArguments{sums, in, dtype, samples_, tiles_, channels_, 1.0 / static_cast<double>(pooled)}, 1);
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
      steps_.push_back({[=](const char*, int64_t begin, int64_t end) { kernel(a, begin, end); }, a.parts});
    }
  }

  void add_spatial_branch() {
    constexpr int64_t most_parts = 8;
    const int64_t part_rows = (height_ + most_parts - 1) / most_parts, parts = (height_ + part_rows - 1) / part_rows;
    size_t here = 0;
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
      a.out = features_[1 - here];
      add_packed(a, packed_[i + 1], parts);
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
  Workspace space_;
  void *channel_logits_ = nullptr, *spatial_logits_ = nullptr;  // [samples, channels], [samples, positions]
  int64_t tiles_ = 0;                                           // of squeeze, per sample
  std::vector<Packing> packings_;
  std::vector<int64_t> packed_;  // where each of them lies among the packed weights
  int64_t packed_bytes_ = 0;
  bool packs_for_each_run_ = false;
  PerSample weights_ = {}, features_[2] = {};
  std::vector<Tensor> weights_as_given_;
  std::vector<Step> steps_;
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
