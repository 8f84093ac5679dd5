// What the CUDA library says of itself, as operators without tensors (torch.ops.bam_fused_cuda): the library then needs
// no Python headers, and one file serves every version of Python.
#include <cuda_runtime.h>

#include <sstream>

#include "../shared/stable.h"
#include "core/check.h"
#include "core/instances.h"
#include "streaming/tiling.h"

namespace bam_fused::cuda {
namespace {

std::string build_info() { return BAM_BUILD_INFO; }

// What the driver says of a kernel's code on the current device, as a JSON object.
std::string describe(const Instance& instance) {
  cudaFuncAttributes attributes{};
  int blocks = 0;
  check(cudaFuncGetAttributes(&attributes, instance.function), instance.name);
  check(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(
          &blocks, instance.function, kThreads, static_cast<size_t>(instance.shared_bytes)),
      instance.name);
  std::ostringstream json;
  json << "{\"name\": \"" << instance.name << "\", \"registers\": " << attributes.numRegs
       << ", \"shared_bytes\": " << instance.shared_bytes
       << ", \"local_bytes\": " << attributes.localSizeBytes  // spills and stack, per thread
       << ", \"architecture\": " << attributes.binaryVersion << ", \"threads\": " << kThreads
       << ", \"blocks_per_multiprocessor\": " << blocks << "}";
  return json.str();
}

std::vector<std::string> kernels(int64_t device) {
  std::vector<Instance> instances;
  for (const ListInstances list : instance_lists()) list(instances);
  int before = 0;
  check(cudaGetDevice(&before), "reading the current device");
  check(cudaSetDevice(static_cast<int>(device)), "selecting the device");
  std::vector<std::string> found;
  for (const Instance& instance : instances) found.push_back(describe(instance));
  check(cudaSetDevice(before), "selecting the device");
  return found;
}

}  // namespace
}  // namespace bam_fused::cuda

STABLE_TORCH_LIBRARY(bam_fused_cuda, m) {
  m.def("build_info() -> str");           // JSON
  m.def("kernels(int device) -> str[]");  // JSON, one object for each
}

STABLE_TORCH_LIBRARY_IMPL(bam_fused_cuda, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&bam_fused::cuda::build_info));
  m.impl("kernels", TORCH_BOX(&bam_fused::cuda::kernels));
}
