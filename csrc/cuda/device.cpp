// The one place that asks PyTorch for a device and a stream.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <atomic>

#include "core/check.h"
#include "device_memory.h"
#include "streaming/tiling.h"

namespace bam_fused {
namespace cuda {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "reading a device's attributes");
  return value;
}

// A multiprocessor's share, in bytes per microsecond.
int bandwidth(int device, int multiprocessors) {
  const double clock = 1e3 * attribute(cudaDevAttrMemoryClockRate, device);
  const double bytes = 2 * clock * attribute(cudaDevAttrGlobalMemoryBusWidth, device) / 8 / 1e6 / multiprocessors;
  return bytes < 1000 ? 14000 : static_cast<int>(bytes);  // where the driver does not tell: as on A100
}

Device describe(int index) {
  static std::atomic<uint64_t> known[64];  // multiprocessors << 32 | bandwidth; zero until asked for
  std::atomic<uint64_t>* const slot = index < 64 ? &known[index] : nullptr;
  uint64_t packed = slot ? slot->load(std::memory_order_relaxed) : 0;
  if (packed == 0) {
    const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount, index);
    packed = static_cast<uint64_t>(multiprocessors) << 32 | static_cast<unsigned>(bandwidth(index, multiprocessors));
    if (slot) slot->store(packed, std::memory_order_relaxed);
  }
  return {index, static_cast<int>(packed >> 32), static_cast<int>(packed & 0xffffffffu)};
}

}  // namespace
}  // namespace cuda

void on_device(const Tensor& x, const std::function<void(const Target&)>& run) {
  const int device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  cuda::DeviceMemory memory(x);
  run({static_cast<cudaStream_t>(stream), cuda::describe(device), cuda::kThreads, std::ref(memory)});
}

}  // namespace bam_fused
