// Device memory for a launch, from PyTorch.
#pragma once

#include <vector>

#include "../shared/tensor.h"

namespace bam_fused::cuda {

/// Gives memory that lives as long as this object, and then until the work queued on its stream is done.
class DeviceMemory {
 public:
  explicit DeviceMemory(const Tensor& like) : like_(like) {}

  void* operator()(size_t bytes) {
    tensors_.push_back(torch::stable::new_empty(like_, {static_cast<int64_t>(bytes)}, ScalarType::Byte));
    return tensors_.back().data_ptr();
  }

 private:
  const Tensor& like_;
  std::vector<Tensor> tensors_;
};

}  // namespace bam_fused::cuda
