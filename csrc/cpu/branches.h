// The branches of a BAM in a training step: their layers, and what the forward keeps for the backward.
#pragma once

#include <optional>
#include <vector>

#include "../shared/bam.h"
#include "dilated_conv.h"
#include "norms.h"

namespace bam_fused::cpu {

struct BranchLayer {
  std::optional<Tensor> weight;  // (O, I), (O, I, 1, 1) or (O, I, 3, 3); the first of the spatial branch has none here
  std::optional<Tensor> bias;    // nor this
  NormLayer norm;
  int64_t inputs, outputs, dilation;
  int64_t place;  // of its first tensor among all
};

// The layers that the arguments describe (bam_fused/functional/branches.py). The spatial ones are the reduction, of
// which only what follows is left to do, then 3x3 convolutions, then the one to a single channel.
struct Branches {
  std::vector<BranchLayer> channel, spatial;
};

Branches read_branches(
    const Tensor& pooled, const Tensor& reduced, const std::vector<Tensor>& tensors, const std::vector<int64_t>& layers,
    int64_t channel_layers, const std::vector<int64_t>& dilations, const std::vector<double>& eps);

// What is kept of a layer.
struct Kept {
  // Its result in front of a norm, or behind a ReLU that follows at once; null of the reduction, which is given.
  void* before = nullptr;
  NormVectors vectors;
};

struct KeptLayers {
  std::vector<Kept> channel, spatial;
  int64_t numbers;  // all together
};

// Where it lies from `memory` on, which may be null while only the numbers are asked for.
KeptLayers kept_layers(const Branches& branches, const Tensor& pooled, const Tensor& reduced, void* memory);

// The memory of a hidden spatial layer as features.
inline PerSample kept_features(const Tensor& like, const Kept& kept, int64_t positions, int64_t channels) {
  const int64_t bytes = compute_bytes(like), unit = 64 / bytes;
  return {kept.before, positions * ((channels + unit - 1) / unit * unit) * bytes};
}

// The rows of a spatial layer's result, cut as a convolution's are.
inline NormedRows spatial_rows(const Tensor& like, const Tensor& reduced, int64_t channels) {
  const int64_t samples = reduced.size(0), height = reduced.size(2), width = reduced.size(3);
  const int64_t chunk_rows = cut_rows(samples, height, width).chunk_rows * width;
  return normed_rows(samples, height * width, channels, padded(like, channels), chunk_rows);
}

// What a layer is given: features, and what these go through first; no scale where that is nothing.
struct LayerInput {
  PerSample features;
  Finish finish{};
};

// What is given to layer `i` of the spatial branch, not the first: made from what is kept, or from the reduction.
inline LayerInput spatial_input(
    const Branches& branches, const KeptLayers& kept, const Tensor& like, const PerSample& reduction, int64_t positions,
    size_t i) {
  const BranchLayer& before = branches.spatial[i - 1];
  const Kept& its = kept.spatial[i - 1];
  LayerInput in{i == 1 ? reduction : kept_features(like, its, positions, before.outputs)};
  if (i == 1 ? before.norm.follows() : before.norm.normalises()) in.finish = its.vectors.finish(before.norm);
  return in;
}

// Memory that is taken as one sample.
inline PerSample one_sample(const void* data) { return {const_cast<void*>(data), 0}; }

}  // namespace bam_fused::cpu
