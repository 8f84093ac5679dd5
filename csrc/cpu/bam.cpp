// The operator bam on the CPU: a whole BAM in inference, sample by sample on a core while x is in its cache.
//
// The steps below are cut into parts of a sample, so that as many samples as there are threads run side by side, each through
// all steps, and the threads share what samples are left over. What a part computes does not depend on who computes it.
#include "../shared/bam.h"

#include "../operations/gate.h"
#include "../shared/logits.h"

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

struct Step {
  std::function<void(int64_t begin, int64_t end)> run;  // parts, numbered through all samples
  int64_t parts;                                        // of one sample
};

void run_steps(const std::vector<Step>& steps, int64_t samples, int64_t elements) {
  constexpr int64_t worth_a_thread = 32768;
  const int64_t threads = elements <= worth_a_thread ? 1 : torch::stable::get_num_threads();
  const int64_t alone = samples / threads * threads;
  const auto whole = [&](int64_t begin, int64_t end) {
    for (int64_t sample = begin; sample < end; ++sample) {
      for (const Step& step : steps) step.run(sample * step.parts, (sample + 1) * step.parts);
    }
  };
  if (threads == 1) return whole(0, samples);
  if (alone > 0) torch::stable::parallel_for(0, alone, 1, whole);
  if (alone == samples) return;
  for (const Step& step : steps) { torch::stable::parallel_for(alone * step.parts, samples * step.parts, 1, step.run); }
}

// A call in the making: its steps, and the tensors that must live until they have run.
class Bam {
 public:
  explicit Bam(const BamCall& call, const Tensor& x)
      : call_(call), x_(x), samples_(x.size(0)), channels_(x.size(1)), height_(x.size(2)), width_(x.size(3)) {}

  void run() {
    channel_logits_ = workspace(x_, {samples_, channels_});
    spatial_logits_ = workspace(x_, {samples_, height_ * width_});
    const Tensor sums = add_squeeze();
    call_.channel.empty() ? fill(channel_logits_) : add_channel_branch(sums);
    call_.spatial.empty() ? fill(spatial_logits_) : add_spatial_branch();
    add_gate();
    run_steps(steps_, samples_, x_.numel());
  }

 private:
  template <class Arguments> void add(const Arguments& arguments, int64_t parts) {
    const auto kernel = kernel_for<Arguments>(dtype_of(x_));
    steps_.push_back({[=](int64_t begin, int64_t end) { kernel(arguments, begin, end); }, parts});
  }

  Tensor keep(Tensor t) {
    kept_.push_back(t);
    return t;
  }

  void fill(Tensor& logits) { torch::stable::zero_(logits); }

  Finish finish(const BamLayer& layer) {
    const Tensor scale_and_shift = keep(finish_of(x_, layer));
    const size_t row = padded(x_, layer.outputs()) * (compute_dtype(x_) == ScalarType::Double ? 8 : 4);
    const char* data = static_cast<const char*>(scale_and_shift.const_data_ptr());
    return {data, data + row, layer.relu};
  }

  Tensor add_squeeze() {
    const int64_t outputs = call_.spatial.empty() ? 0 : call_.spatial[0].outputs();
    SqueezeArguments a = squeeze_arguments(call_.map, x_, outputs);
    if (call_.crops) a.pooled_width = height_;
    const Tensor sums = keep(workspace(x_, {samples_, a.tiles, channels_}));
    a.x = call_.x;
    a.pool_partials = sums.data_ptr();
    a.weight = sums.const_data_ptr();  // of no outputs, none is read
    if (outputs > 0) {
      place_features(outputs);
      a.weight = keep(packed_weight(x_, call_.spatial[0].weight, outputs, channels_, 1)).const_data_ptr();
      a.finish = finish(call_.spatial[0]);
      a.features = features_[0];
    }
    add(a, a.tiles);
    return sums;
  }

  // The features of a sample lie where its output will be, which is written last, if there is room.
  void place_features(int64_t outputs) {
    const int64_t size = compute_dtype(x_) == ScalarType::Double ? 8 : 4;
    const int64_t bytes = (height_ * width_ * padded(x_, outputs) * size + 63) / 64 * 64;
    const int64_t needed = 64 + (call_.dilations.empty() ? 1 : 2) * bytes;
    const int64_t element = x_.element_size();
    if (needed <= channels_ * height_ * width_ * element) {
      features_[0] = {call_.out.data, call_.out.strides.sample * element, 0};
    } else {
      const Tensor space = keep(workspace(x_, {samples_, needed / size}));
      features_[0] = {space.data_ptr(), needed / size * size, 0};
    }
    features_[1] = features_[0];
    features_[1].offset = bytes;
  }

  void add_channel_branch(const Tensor& sums) {
    Tensor in = keep(workspace(x_, {samples_, channels_}));
    const int64_t tiles = sums.size(1), pooled = height_ * (call_.crops ? height_ : width_);
    add(
        SumPartialsArguments{
            sums.const_data_ptr(), in.data_ptr(), dtype_of(in), samples_, tiles, channels_,
            1.0 / static_cast<double>(pooled)},
        1);
    for (size_t i = 0; i < call_.channel.size(); ++i) {
      const BamLayer& layer = call_.channel[i];
      const bool last = i + 1 == call_.channel.size();
      const Tensor out = last ? channel_logits_ : keep(workspace(x_, {samples_, layer.outputs()}));
      ChannelLayerArguments a{};
      a.inputs = layer.inputs();
      a.outputs = layer.outputs();
      a.part_outputs = 64;
      a.parts = (a.outputs + a.part_outputs - 1) / a.part_outputs;
      a.weight = keep(as_compute_dtype(layer.weight, x_)).const_data_ptr();
      a.finish = finish(layer);
      a.in = in.const_data_ptr();
      a.out = out.data_ptr();
      add(a, a.parts);
      in = out;
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
      a.weight = keep(packed_weight(x_, layer.weight, a.outputs, a.inputs, 9)).const_data_ptr();
      a.finish = finish(layer);
      a.in = features_[here];
      a.out = features_[1 - here];
      add(a, parts);
      here = 1 - here;
    }
    const BamLayer& layer = call_.spatial.back();
    SpatialLogitsArguments a{};
    a.positions = height_ * width_;
    a.inputs = layer.inputs();
    a.part_positions = part_rows * width_;
    a.parts = parts;
    a.weight = keep(packed_row(x_, layer.weight)).const_data_ptr();
    a.finish = finish(layer);
    a.in = features_[here];
    a.out = spatial_logits_.data_ptr();
    add(a, parts);
  }

  void add_gate() {
    const FeatureMap& map = call_.map;
    const Extent extent = extent_of(map);
    const Dtype dtype = dtype_of(x_);
    const Tiling tiling = tiling_of(extent, dtype);
    const auto logits = sides(map, logits_of(channel_logits_, x_), logits_of(spatial_logits_, x_));
    const GateCall call{extent, dtype, call_.combine, call_.x, call_.out, logits.row.logits, logits.column.logits};
    add(Tiled<GateCall>{call, tiling, nullptr, nullptr}, tiling.row_tiles * tiling.column_tiles);
  }

  const BamCall& call_;
  const Tensor& x_;
  const int64_t samples_, channels_, height_, width_;
  Tensor channel_logits_, spatial_logits_;
  PerSample features_[2] = {};
  std::vector<Step> steps_;
  std::vector<Tensor> kept_;
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
