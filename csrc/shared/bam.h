// The operator bam up to the launch, which a backend supplies: a whole BAM in inference.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "feature_map.h"

namespace bam_fused {

// What a layer has, as bits of its number in `layers`; its tensors follow each other in this order, the weight before
// them.
enum LayerHas : int64_t { kBias = 1, kNorm = 2, kAffine = 4, kRelu = 8, kBatch = 16 };

struct BamLayer {
  Tensor weight;                         // (O, I), (O, I, 1, 1) or (O, I, 3, 3)
  std::optional<Tensor> bias;            // (O,), like all below
  std::optional<Tensor> mean, variance;  // of a BatchNorm in evaluation
  std::optional<Tensor> gain, offset;    // its weight and bias
  double eps;
  bool relu;

  int64_t outputs() const { return weight.size(0); }
  int64_t inputs() const { return weight.size(1); }
};

struct BamCall {
  const FeatureMap& map;
  Map x, out;
  std::vector<BamLayer> channel, spatial;  // one may be empty
  std::vector<int64_t> dilations;          // of the 3x3 layers, all but the first and the last of `spatial`
  Combine combine;
  bool crops;  // pool the left H x H crop
};

namespace detail {

class LayerReader {
 public:
  LayerReader(const Tensor& x, const std::vector<Tensor>& tensors) : x_(x), tensors_(tensors) {}

  BamLayer read(int64_t has, double eps, int64_t inputs, int64_t size) {
    BamLayer layer{next(), {}, {}, {}, {}, {}, eps, (has & kRelu) != 0};
    const Tensor& w = layer.weight;
    const bool flat = w.dim() == 2 && size == 1;
    require(
        (flat || (w.dim() == 4 && w.size(2) == size && w.size(3) == size)) && w.size(0) > 0 && w.size(1) == inputs,
        "tensors must fit each other: weights (outputs, inputs), the rest (outputs,)");
    if (has & kBias) layer.bias = vector(w);
    if (has & kNorm) layer.mean = vector(w), layer.variance = vector(w);
    if (has & kAffine) layer.gain = vector(w), layer.offset = vector(w);
    return layer;
  }

  bool done() const { return read_ == tensors_.size(); }

 private:
  const Tensor& next() {
    require(read_ < tensors_.size(), "tensors must be as many as these layers have");
    const Tensor& t = tensors_[read_++];
    require(t.device() == x_.device(), "tensors must be on x's device");
    return t;
  }

  Tensor vector(const Tensor& weight) {
    const Tensor& t = next();
    require(
        t.dim() == 1 && t.size(0) == weight.size(0),
        "tensors must fit each other: weights (outputs, inputs), the rest (outputs,)");
    return t;
  }

  const Tensor& x_;
  const std::vector<Tensor>& tensors_;
  size_t read_ = 0;
};

}  // namespace detail

// F' of x, by the layers that the arguments describe (bam_fused/functional/bam.py); launch(BamCall) writes it.
template <class Launch>
Tensor bam(
    const Tensor& x, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers, int64_t channel_layers,
    const std::vector<int64_t>& dilations, const std::vector<double>& eps, const std::string& combine, bool crops,
    Launch launch) {
  check_feature_map(x);
  const int64_t count = static_cast<int64_t>(layers.size()), spatial_layers = count - channel_layers;
  const int64_t convolutions = static_cast<int64_t>(dilations.size());
  require(
      channel_layers >= 0 && spatial_layers >= 0 && count > 0 && eps.size() == layers.size(),
      "layers and eps must be as many, at least channel_layers");
  require(
      convolutions == (spatial_layers == 0 ? 0 : spatial_layers - 2),
      "dilations must be one for each spatial layer but the first and the last");
  for (const int64_t dilation : dilations) require(dilation > 0, "dilations must be positive");
  require(!crops || (x.size(2) <= x.size(3) && x.size(3) < 2 * x.size(2)), "x must have H <= W < 2H");
  Tensor out = fresh_like(x);
  const FeatureMap map({&x, &out});
  BamCall call{map, {}, {}, {}, {}, dilations, parse_combine(combine), crops};
  detail::LayerReader reader(x, tensors);
  int64_t inputs = x.size(1);
  for (int64_t i = 0; i < count; ++i) {
    const bool channel = i < channel_layers, first = i == channel_layers, last = i + 1 == count;
    if (first) inputs = x.size(1);
    const int64_t size = channel || first || last ? 1 : 3;
    (channel ? call.channel : call.spatial).push_back(reader.read(layers[i], eps[i], inputs, size));
    inputs = (channel ? call.channel : call.spatial).back().outputs();
    if (i + 1 == channel_layers) require(inputs == x.size(1), "the channel branch must end in C logits");
    if (!channel && last) require(inputs == 1, "the spatial branch must end in one channel");
  }
  require(reader.done(), "tensors must be as many as these layers have");
  if (x.numel() == 0) return out;
  const View read = map.readable(x), written = map.writable(out);
  call.x = read.map;
  call.out = written.map;
  launch(call);
  map.finish(written, out);
  return out;
}

}  // namespace bam_fused
