// The one place that asks PyTorch for a device and a stream.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <atomic>

#include "core/check.h"
#include "tensors.h"
#include "streaming/tiling.h"

namespace bam_fused::cuda {
namespace {

int multiprocessors(int device) {
  static std::atomic<int> known[64];  // zero until asked for
  std::atomic<int>* const slot = device < 64 ? &known[device] : nullptr;
  int count = slot ? slot->load(std::memory_order_relaxed) : 0;
  if (count == 0) {
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "reading the multiprocessor count");
    if (slot) slot->store(count, std::memory_order_relaxed);
  }
  return count;
}

}  // namespace

void on_device(const Tensor& x, const std::function<void(const Target&)>& run) {
  const int device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  run({static_cast<cudaStream_t>(stream), multiprocessors(device), kThreads});
}

}  // namespace bam_fused::cuda
