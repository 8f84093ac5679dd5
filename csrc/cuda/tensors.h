// Between PyTorch's tensors and the launchers: what of a tensor they are told, where to run, and the workspace's memory.
#pragma once

#include <vector>

#include "../shared/feature_map.h"
#include "matrices.h"

namespace bam_fused::cuda {

Dtype dtype_of(const Tensor& x);

/// Runs something with the tensor's device as the current one; it is told where to run: the device's current stream.
void on_device(const Tensor& x, const std::function<void(const Target&)>& run);

inline Matrix matrix_of(const View& view) { return {view.data, view.strides.sample, view.strides.row}; }

inline Extent extent_of(const FeatureMap& map) {
  return {map.shape.samples, map.shape.rows(map.rows), map.shape.columns(map.rows)};
}

/// (N, C) or (N, C, 1, 1)
Logits channel_logits_of(const Tensor& logits);

/// (N, H, W) or (N, 1, H, W) whose positions lie at one stride; `copy` keeps the contiguous copy made of any other.
Logits spatial_logits_of(const Tensor& logits, Tensor& copy);

Results results_of(const Tensor& t);

/// Device memory that lives as long as this object, and then until the work queued on its stream is done.
class Memory {
 public:
  explicit Memory(const Tensor& like) : like_(like) {}
  void* operator()(size_t bytes);

 private:
  const Tensor& like_;
  std::vector<Tensor> tensors_;
};

}  // namespace bam_fused::cuda
