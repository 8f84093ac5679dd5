// Between PyTorch's tensors and the launchers: what of a tensor they are told, where to run, and the workspace's memory.
#pragma once

#include <vector>

#include "../shared/feature_map.h"
#include "core/call.h"

namespace bam_fused::cuda {

/// Runs something with the tensor's device as the current one; it is told where to run: the device's current stream.
void on_device(const Tensor& x, const std::function<void(const Target&)>& run);

inline Extent extent_of(const FeatureMap& map) {
  return {map.shape.samples, map.shape.rows(map.rows), map.shape.columns(map.rows)};
}

/// Logits in any of the shapes that the operators accept, read at one stride per sample; any others are copied, and `copy`
/// keeps what is read.
Logits logits_of(const Tensor& logits, Tensor& copy);

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
