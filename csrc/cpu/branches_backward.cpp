// The operator branches_backward on the CPU: from the logits' gradients back to the pooled vector, the reduction and
// the tensors.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "branches.h"
#include "kernels/branches_backward.h"
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
        kept_(kept_layers(branches, pooled, reduced, saved.data_ptr())),
        reduction_(features_of(reduced)),
        space_(pooled),
        gradients_(wanted.size()) {
    require(saved.numel() == kept_.numbers, "saved must come from these layers");
  }

  std::vector<Tensor> gradients() const {
    std::vector<Tensor> all = gradients_;
    for (Tensor& gradient : all) {
      if (!gradient.defined()) gradient = workspace(pooled_, {0});
    }
    return all;
  }

  // Back through the channel branch: the gradient of the pooled vector.
  Tensor through_channel(const Tensor& given) {
    const Tensor pooled_grad = workspace(pooled_, {samples_, pooled_.size(1)}),
                 first = as_compute_dtype(pooled_, pooled_);
    PerSample grad = one_sample(given.const_data_ptr());
    for (size_t i = branches_.channel.size(); i-- > 0;) {
      const BranchLayer& layer = branches_.channel[i];
      const Tensor weight = as_compute_dtype(*layer.weight, pooled_);
      const NormedRows rows = normed_rows(1, samples_, layer.outputs, layer.outputs);
      ChannelLayerGradArguments a{};
      a.samples = samples_;
      a.inputs = layer.inputs;
      a.outputs = layer.outputs;
      a.part_inputs = 64;
      a.weight = weight.const_data_ptr();
      a.in = i == 0 ? first.const_data_ptr() : channel_input(i);
      a.grad = in_front_of(layer, kept_.channel[i], rows, one_sample(kept_.channel[i].before), grad).data;
      a.in_grad = i == 0 ? pooled_grad.data_ptr() : space_.take(samples_ * layer.inputs);
      const int64_t at = places_of(layer).weight;
      if (wanted(at)) a.weight_grad = fresh_gradient(at, *layer.weight).data_ptr();
      const int64_t parts = (a.inputs + a.part_inputs - 1) / a.part_inputs;
      for_tiles(a, dtype_of(pooled_), parts, samples_ * a.inputs * a.outputs);
      grad = one_sample(a.in_grad);
    }
    return pooled_grad;
  }

  // Back through the spatial branch: the gradient of the reduction (N, R, H, W), channels_last.
  Tensor through_spatial(const Tensor& grad) {
    Tensor out;
    Features written;
    Features features;
    for (size_t i = branches_.spatial.size() - 1; i > 0; --i) {
      Features in_grad;
      if (i > 1) {
        in_grad = empty_features(pooled_, samples_, branches_.spatial[i].inputs, height_ * width_);
      } else {  // only now, in memory that has become free
        out = torch::stable::empty(
            {samples_, branches_.spatial[i].inputs, height_, width_}, compute_dtype(pooled_), std::nullopt,
            pooled_.device(), std::nullopt, torch::headeronly::MemoryFormat::ChannelsLast);
        in_grad = features_to_write(out);
      }
      const NormGradSumsArguments sums = sums_of(i - 1, in_grad.each);
      if (i + 1 == branches_.spatial.size()) {
        through_last(grad, in_grad.each, sums);
      } else {
        through_convolution(i, features.each, in_grad.each, sums);
      }
      finish_layer(
          branches_.spatial[i - 1], kept_.spatial[i - 1], rows_of(branches_.spatial[i - 1]), sums, in_grad.each);
      features = in_grad;
    }
    finish_features(features, out);
    return out;
  }

 private:
  bool wanted(int64_t place) const { return place >= 0 && wanted_[static_cast<size_t>(place)] != 0; }

  Tensor& fresh_gradient(int64_t place, const Tensor& of) {
    return gradients_[static_cast<size_t>(place)] = torch::stable::new_empty(of, of.sizes(), compute_dtype(pooled_));
  }

  // The sums that the gradient `grad` behind a layer of the spatial branch is asked for; no partials where that is
  // none.
  NormGradSumsArguments sums_of(size_t i, const PerSample& grad) {
    const BranchLayer& layer = branches_.spatial[i];
    const Kept& kept = kept_.spatial[i];
    const PerSample before = i == 0 ? reduction_.each : kept_features(pooled_, kept, height_ * width_, layer.outputs);
    return sums_of(layer, kept, rows_of(layer), before, grad);
  }

  NormGradSumsArguments sums_of(
      const BranchLayer& layer, const Kept& kept, const NormedRows& rows, const PerSample& before,
      const PerSample& grad) {
    const bool follows = layer.norm.follows();
    if (!follows && !wanted(places_of(layer).bias)) return {};
    return grad_sums(layer.norm, rows, kept.vectors, follows ? before : grad, grad, space_);
  }

  // Notes the gradients of a layer's vectors, and writes the one in front of what follows it, if anything does, to
  // `out`.
  void finish_layer(
      const BranchLayer& layer, const Kept& kept, const NormedRows& rows, const NormGradSumsArguments& taken,
      const PerSample& out) {
    if (!taken.partials) return;
    const Places at = places_of(layer);
    const NormGrads sums = norm_grads(pooled_, layer.norm, rows, kept.vectors, taken);
    note(at.gain, layer.norm.gain, sums.gain);
    note(at.offset, layer.norm.offset, sums.offset);
    note(at.bias, layer.bias, sums.bias);
    if (layer.norm.follows()) norm_backward(pooled_, layer.norm, rows, kept.vectors, taken, sums, out, space_);
  }

  // The gradient in front of what follows a layer, from one that was given.
  PerSample in_front_of(
      const BranchLayer& layer, const Kept& kept, const NormedRows& rows, const PerSample& before,
      const PerSample& grad) {
    const NormGradSumsArguments sums = sums_of(layer, kept, rows, before, grad);
    if (sums.partials) take(pooled_, rows, sums);
    const PerSample out = layer.norm.follows() ? one_sample(space_.take(rows.shape.rows * rows.shape.columns)) : grad;
    finish_layer(layer, kept, rows, sums, out);
    return out;
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

  // What a layer of the channel branch was given, not the first.
  const void* channel_input(size_t i) {
    const BranchLayer& layer = branches_.channel[i - 1];
    const Kept& kept = kept_.channel[i - 1];
    void* out = space_.take(samples_ * layer.outputs);
    const NormedRows rows = normed_rows(1, samples_, layer.outputs, layer.outputs);
    normalise(pooled_, rows, kept.vectors.finish(layer.norm), one_sample(kept.before), one_sample(out));
    return out;
  }

  LayerInput input(size_t i) { return spatial_input(branches_, kept_, pooled_, reduction_.each, height_ * width_, i); }

  void through_last(const Tensor& grad, const PerSample& in_grad, const NormGradSumsArguments& sums) {
    const BranchLayer& layer = branches_.spatial.back();
    const Kept& kept = kept_.spatial.back();
    const int64_t positions = height_ * width_, row = padded(pooled_, layer.inputs);
    const LayerInput in = input(branches_.spatial.size() - 1);
    SpatialLogitsGradArguments a{};
    a.positions = positions;
    a.inputs = layer.inputs;
    a.part_positions = whole_chunks(128);
    a.parts = (positions + a.part_positions - 1) / a.part_positions;
    const Tensor partials = workspace(pooled_, {samples_ * a.parts, row});
    a.weight = padded_row(pooled_, *layer.weight, space_);
    a.grad =
        in_front_of(
            layer, kept, folded_rows(samples_ * positions), one_sample(kept.before), one_sample(grad.const_data_ptr()))
            .data;
    a.in = in.features;
    a.in_finish = in.finish;
    a.in_grad = in_grad;
    a.weight_grad_partials = partials.data_ptr();
    a.grad_sums = sums;
    for_tiles(a, dtype_of(pooled_), samples_ * a.parts, samples_ * positions * layer.inputs);
    const int64_t at = places_of(layer).weight;
    if (wanted(at)) {
      const Tensor sums = workspace(pooled_, {1, row});
      sum_partials(pooled_, partials, sums, 1, samples_ * a.parts, 1.0);
      const size_t bytes = static_cast<size_t>(layer.inputs * compute_bytes(pooled_));
      std::memcpy(fresh_gradient(at, *layer.weight).data_ptr(), sums.const_data_ptr(), bytes);
    }
  }

  // Positions of the map, about so many, which are whole chunks of it.
  int64_t whole_chunks(int64_t about) {
    const int64_t chunk = cut_rows(samples_, height_, width_).chunk_rows * width_;
    return std::max<int64_t>(1, about / chunk) * chunk;
  }

  void through_convolution(
      size_t i, const PerSample& grad, const PerSample& in_grad, const NormGradSumsArguments& sums) {
    const BranchLayer& layer = branches_.spatial[i];
    const ConvShape shape{samples_, height_, width_, layer.inputs, layer.outputs, layer.dilation};
    const Dtype products = product_dtype(pooled_, *layer.weight);
    const int64_t at = places_of(layer).weight;
    Features by_positions;
    if (are_pairs(products)) {
      if (wanted(at)) by_positions = empty_features(pooled_, samples_, layer.outputs, height_ * width_);
      make_factors(shape, layer.outputs, grad, {grad, by_positions.each});
    }
    if (wanted(at)) {
      const LayerInput in = input(i);
      gradients_[static_cast<size_t>(at)] = convolution_weight_grad(
          products, pooled_, shape, in.features, in.finish, are_pairs(products) ? by_positions.each : grad);
    }
    const ConvShape back{samples_, height_, width_, layer.outputs, layer.inputs, layer.dilation};
    const Tensor turned = turned_weight(layer, products);
    const Finish nothing = bias_alone(pooled_, {}, layer.inputs, false, space_);
    const ConvFeatures features{grad, padded(pooled_, layer.outputs), in_grad};
    convolve(products, back, turned.const_data_ptr(), nothing, features, {{}, sums});
  }

  // The weight with which a convolution's input gradient is a convolution, as factors.
  Tensor turned_weight(const BranchLayer& layer, Dtype products) {
    const bool pairs = are_pairs(products);
    const Tensor given = pairs ? torch::stable::contiguous(*layer.weight) : as_compute_dtype(*layer.weight, pooled_);
    const int64_t depth = split(layer.outputs, pairs ? 2 : 1);
    Tensor turned = workspace(pooled_, {9, depth, padded(pooled_, layer.inputs)});
    const TurnArguments a{given.const_data_ptr(), turned.data_ptr(), layer.outputs, layer.inputs, 9};
    for_tiles(a, products, depth, turned.numel());
    return turned;
  }

  NormedRows rows_of(const BranchLayer& layer) { return spatial_rows(pooled_, reduced_, layer.outputs); }

  const Branches& branches_;
  const Tensor &pooled_, &reduced_;
  const std::vector<int64_t>& wanted_;
  const int64_t samples_, height_, width_;
  const KeptLayers kept_;
  const Features reduction_;
  Workspace space_;
  std::vector<Tensor> gradients_;
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
  return {pooled_grad, reduced_grad, backward.gradients()};
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("branches_backward.compiled", TORCH_BOX(&bam_fused::cpu::branches_backward));
}
