// The operator branches_backward on the CPU: from the logits' gradients back to the pooled vector, the reduction and the
// tensors.
#include <cstring>
#include <tuple>

#include "branches.h"
#include "dilated_conv.h"
#include "kernels/branches_backward.h"
#include "kernels/sum_partials.h"
#include "layers.h"

namespace bam_fused::cpu {
namespace {

// Where a layer's tensors are among all of them; -1 where it has none.
struct Places {
  int64_t weight = -1, bias = -1, gain = -1, offset = -1;
};

Places places_of(const BranchLayer& layer) {
  Places at;
  int64_t next = layer.place;
  if (layer.weight) at.weight = next++;
  if (layer.bias) at.bias = next++;
  if (layer.norm.mean) next += 2;
  if (layer.norm.gain) at.gain = next++, at.offset = next++;
  return at;
}

// A contiguous tensor of the compute type whose memory begins at a multiple of 64 bytes, as fresh memory does.
Tensor aligned(const Tensor& t, const Tensor& like) {
  const Tensor numbers = as_compute_dtype(t, like);
  if (reinterpret_cast<uintptr_t>(numbers.const_data_ptr()) % 64 == 0) return numbers;
  Tensor copy = torch::stable::new_empty(numbers, numbers.sizes());
  torch::stable::copy_(copy, numbers);
  return copy;
}

// A backward in the making; its gradients are in the compute type, empty where they are not wanted.
class BranchesBackward {
 public:
  BranchesBackward(
      const Branches& branches, const Tensor& pooled, const Tensor& reduced, const Tensor& saved,
      const std::vector<int64_t>& wanted)
      : branches_(branches),
        pooled_(pooled),
        reduced_(reduced),
        wanted_(wanted),
        samples_(reduced.size(0)),
        height_(reduced.size(2)),
        width_(reduced.size(3)),
        kept_(kept_layers(branches, pooled, reduced, saved.data_ptr())) {
    require(saved.numel() == kept_.numbers, "saved must come from these layers");
    for (size_t i = 0; i < wanted.size(); ++i) gradients.push_back(workspace(pooled, {0}));
  }

  std::vector<Tensor> gradients;

  // Back through the channel branch: the gradient of the pooled vector.
  Tensor through_channel(Tensor grad) {
    for (size_t i = branches_.channel.size(); i-- > 0;) {
      const BranchLayer& layer = branches_.channel[i];
      const NormedRows rows = normed_rows(1, samples_, layer.outputs, layer.outputs);
      const Tensor before = workspace(pooled_, {samples_, layer.outputs});
      const PerSample d = in_front_of_norm(
          layer, kept_.channel[i], rows, one_sample(kept_.channel[i].before), one_sample(grad.const_data_ptr()),
          one_sample(before.data_ptr()));
      const Tensor in = channel_input(i), weight = as_compute_dtype(*layer.weight, pooled_);
      const Tensor in_grad = workspace(pooled_, {samples_, layer.inputs});
      ChannelLayerGradArguments a{};
      a.samples = samples_;
      a.inputs = layer.inputs;
      a.outputs = layer.outputs;
      a.part_inputs = 64;
      a.weight = weight.const_data_ptr();
      a.in = in.const_data_ptr();
      a.grad = d.data;
      a.in_grad = in_grad.data_ptr();
      const int64_t at = places_of(layer).weight;
      if (wanted(at)) a.weight_grad = fresh_gradient(at, *layer.weight).data_ptr();
      const int64_t parts = (a.inputs + a.part_inputs - 1) / a.part_inputs;
      for_tiles(a, dtype_of(pooled_), parts, samples_ * a.inputs * a.outputs);
      grad = in_grad;
    }
    return grad;
  }

  // Back through the spatial branch: the gradient of the reduction (N, R, H, W), channels_last.
  Tensor through_spatial(const Tensor& grad) {
    Features features = through_last(grad);
    for (size_t i = branches_.spatial.size() - 1; i-- > 1;) features = through_convolution(i, features);
    const BranchLayer& reduction = branches_.spatial.front();
    Tensor out = torch::stable::empty(
        {samples_, reduction.outputs, height_, width_}, compute_dtype(pooled_), std::nullopt, pooled_.device(),
        std::nullopt, torch::headeronly::MemoryFormat::ChannelsLast);
    Features written = features_to_write(out);
    const Features in = features_of(reduced_);
    const PerSample d =
        in_front_of_norm(reduction, kept_.spatial.front(), rows_of(reduction), in.each, features.each, written.each);
    finish_features(d.data == written.each.data ? written : features, out);
    return out;
  }

 private:
  bool wanted(int64_t place) const { return place >= 0 && wanted_[static_cast<size_t>(place)] != 0; }

  Tensor& fresh_gradient(int64_t place, const Tensor& of) {
    return gradients[static_cast<size_t>(place)] = torch::stable::new_empty(of, of.sizes(), compute_dtype(pooled_));
  }

  // The gradient in front of what follows a layer, which is written to `out`, or `grad` itself where nothing does.
  PerSample in_front_of_norm(
      const BranchLayer& layer, const Kept& kept, const NormedRows& rows, const PerSample& before,
      const PerSample& grad, const PerSample& out) {
    const Places at = places_of(layer);
    const bool follows = layer.norm.follows();
    if (!follows && !wanted(at.bias)) return grad;
    const NormGrads sums =
        norm_backward(pooled_, layer.norm, rows, kept.vectors, follows ? before : grad, grad, follows ? &out : nullptr);
    note(at.gain, layer.norm.gain, sums.gain);
    note(at.offset, layer.norm.offset, sums.offset);
    note(at.bias, layer.bias, sums.bias);
    return follows ? out : grad;
  }

  void note(int64_t place, const std::optional<Tensor>& of, const std::vector<double>& sums) {
    if (!wanted(place)) return;
    const Tensor& to = fresh_gradient(place, *of);
    for (size_t c = 0; c < sums.size(); ++c) {
      if (compute_dtype(pooled_) == ScalarType::Double) {
        static_cast<double*>(to.data_ptr())[c] = sums[c];
      } else {
        static_cast<float*>(to.data_ptr())[c] = static_cast<float>(sums[c]);
      }
    }
  }

  // What a layer of the channel branch was given.
  Tensor channel_input(size_t i) {
    if (i == 0) return as_compute_dtype(pooled_, pooled_);
    const BranchLayer& layer = branches_.channel[i - 1];
    const Tensor out = workspace(pooled_, {samples_, layer.outputs});
    const NormedRows rows = normed_rows(1, samples_, layer.outputs, layer.outputs);
    const Kept& kept = kept_.channel[i - 1];
    normalise(pooled_, rows, kept.vectors, layer.norm.relu, one_sample(kept.before), one_sample(out.data_ptr()));
    return out;
  }

  // What a layer of the spatial branch was given: kept as it was, or made again from what is kept.
  Features spatial_input(size_t i) {
    const BranchLayer& layer = branches_.spatial[i - 1];
    const Kept& kept = kept_.spatial[i - 1];
    const Features before = i == 1 ? features_of(reduced_)
                                   : Features{reduced_, kept_features(pooled_, kept, height_ * width_, layer.outputs)};
    const bool as_it_was = i == 1 ? !layer.norm.follows() : !layer.norm.normalises();
    if (as_it_was) return before;
    const Features out = fresh_features(layer.outputs);
    normalise(pooled_, rows_of(layer), kept.vectors, layer.norm.relu, before.each, out.each);
    return out;
  }

  Features through_last(const Tensor& grad) {
    const BranchLayer& layer = branches_.spatial.back();
    const Kept& kept = kept_.spatial.back();
    const int64_t positions = height_ * width_;
    const Tensor before = workspace(pooled_, {samples_ * positions});
    const PerSample d = in_front_of_norm(
        layer, kept, folded_rows(samples_ * positions), one_sample(kept.before), one_sample(grad.const_data_ptr()),
        one_sample(before.data_ptr()));
    const Features in = spatial_input(branches_.spatial.size() - 1), out = fresh_features(layer.inputs);
    const Tensor weight = padded_vector(pooled_, *layer.weight, layer.inputs, 0.0);
    SpatialLogitsGradArguments a{};
    a.positions = positions;
    a.inputs = layer.inputs;
    a.part_positions = 128;
    a.parts = (positions + a.part_positions - 1) / a.part_positions;
    const int64_t row = padded(pooled_, layer.inputs);
    const Tensor partials = workspace(pooled_, {samples_ * a.parts, row});
    a.weight = weight.const_data_ptr();
    a.grad = d.data;
    a.in = in.each;
    a.in_grad = out.each;
    a.weight_grad_partials = partials.data_ptr();
    for_tiles(a, dtype_of(pooled_), samples_ * a.parts, samples_ * positions * layer.inputs);
    const int64_t at = places_of(layer).weight;
    if (wanted(at)) {
      const Tensor sums = workspace(pooled_, {1, row});
      sum_partials(pooled_, partials, sums, 1, samples_ * a.parts, 1.0);
      const size_t bytes = static_cast<size_t>(layer.inputs * compute_bytes(pooled_));
      std::memcpy(fresh_gradient(at, *layer.weight).data_ptr(), sums.const_data_ptr(), bytes);
    }
    return out;
  }

  Features through_convolution(size_t i, const Features& grad) {
    const BranchLayer& layer = branches_.spatial[i];
    const Kept& kept = kept_.spatial[i];
    const ConvShape shape{samples_, height_, width_, layer.inputs, layer.outputs, layer.dilation};
    const Features before = layer.norm.follows() ? fresh_features(layer.outputs) : grad;
    const PerSample d = in_front_of_norm(
        layer, kept, rows_of(layer), kept_features(pooled_, kept, shape.height * shape.width, layer.outputs), grad.each,
        before.each);
    const int64_t at = places_of(layer).weight;
    if (wanted(at)) {
      const Features in = spatial_input(i);
      gradients[static_cast<size_t>(at)] = convolution_weight_grad(pooled_, shape, in.each, d);
    }
    const Features out = fresh_features(layer.inputs);
    const ConvShape back{samples_, height_, width_, layer.outputs, layer.inputs, layer.dilation};
    const Tensor turned = turned_weight(layer), scale = filled(pooled_, layer.inputs, 1.0),
                 shift = filled(pooled_, layer.inputs, 0.0);
    convolve(pooled_, back, turned, {scale.const_data_ptr(), shift.const_data_ptr(), false}, d, out.each);
    return out;
  }

  // The weight with which a convolution's input gradient is a convolution.
  Tensor turned_weight(const BranchLayer& layer) {
    const Tensor given = as_compute_dtype(*layer.weight, pooled_);
    Tensor turned = workspace(pooled_, {9, layer.outputs, padded(pooled_, layer.inputs)});
    const TurnArguments a{given.const_data_ptr(), turned.data_ptr(), layer.outputs, layer.inputs, 9};
    for_tiles(a, dtype_of(pooled_), layer.outputs, turned.numel());
    return turned;
  }

  NormedRows rows_of(const BranchLayer& layer) {
    return normed_rows(samples_, height_ * width_, layer.outputs, padded(pooled_, layer.outputs));
  }

  Features fresh_features(int64_t channels) { return empty_features(pooled_, samples_, channels, height_, width_); }

  const Branches& branches_;
  const Tensor &pooled_, &reduced_;
  const std::vector<int64_t>& wanted_;
  const int64_t samples_, height_, width_;
  const KeptLayers kept_;
};

std::tuple<Tensor, Tensor, std::vector<Tensor>> branches_backward(
    const Tensor& channel_grad, const Tensor& spatial_grad, const Tensor& pooled, const Tensor& reduced,
    const Tensor& saved, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers, int64_t channel_layers,
    const std::vector<int64_t>& dilations, const std::vector<double>& eps, const std::vector<int64_t>& wanted) {
  const Branches read = read_branches(pooled, reduced, tensors, layers, channel_layers, dilations, eps);
  require(wanted.size() == tensors.size(), "wanted must be as many as tensors");
  require(
      channel_grad.dim() == 2 && channel_grad.size(0) == pooled.size(0) && channel_grad.size(1) == pooled.size(1),
      "channel_grad must be (N, C)");
  require(
      spatial_grad.numel() == reduced.size(0) * reduced.size(2) * reduced.size(3), "spatial_grad must be (N, 1, H, W)");
  const Tensor kept = aligned(saved, pooled);
  BranchesBackward backward(read, pooled, reduced, kept, wanted);
  const Tensor pooled_grad = backward.through_channel(aligned(channel_grad, pooled));
  const Tensor reduced_grad = backward.through_spatial(aligned(spatial_grad, pooled));
  return {pooled_grad, reduced_grad, backward.gradients};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("branches_backward.compiled", TORCH_BOX(&bam_fused::cpu::branches_backward));
}
