// Between PyTorch's tensors and the launchers: which matrix a tensor is, where to run, and the workspace's memory.
#pragma once

#include <vector>

#include "../matrix.h"
#include "../stable.h"
#include "matrices.h"

namespace bam_fused::cuda {

Dtype dtype_of(const Tensor& x);

/// Runs something with the tensor's device as the current one; it is told where to run: the device's current stream.
void on_device(const Tensor& x, const std::function<void(const Target&)>& run);

Matrix matrix_of(const Tensor& t, Rows rows);

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

/// x as matrices with some rows, and what follows from it for all that has x's shape. Where x is none (its H and W
/// transposed, say), the kernels work on contiguous copies.
struct FeatureMap {
  Tensor x;
  Rows rows;
  Extent extent;

  explicit FeatureMap(const Tensor& given);

  bool rows_are_channels() const { return rows == Rows::channels; }

  /// Where a kernel can write what is to become `out`: `out` itself, or a stand-in to be copied into it.
  Tensor writable(const Tensor& out) const;

  /// A gradient comes in whatever layout its consumer left: read as it is where it is a matrix with these rows; one row
  /// read again and again where it repeats one number; else copied. `owner` keeps what was made.
  Matrix readable(const Tensor& grad, Tensor& owner) const;
};

}  // namespace bam_fused::cuda
