// The Python module _C of the CUDA library: importing it registers the operators; what it offers is its own introspection.
// This file includes no header of PyTorch, as pybind11 and the stable ABI's headers do not mix in one source.
#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include "check.h"
#include "instances.h"
#include "tiling.h"

namespace {

using namespace bam_fused::cuda;

// What the driver says of each kernel's code for a device.
pybind11::list kernels(int device) {
  std::vector<Instance> instances;
  list_gate(instances);
  list_gate_backward(instances);
  list_global_avg_pool(instances);
  int before = 0;
  check(cudaGetDevice(&before), "reading the current device");
  check(cudaSetDevice(device), "selecting the device");
  pybind11::list found;
  for (const Instance& instance : instances) {
    cudaFuncAttributes attributes{};
    int blocks = 0;
    check(cudaFuncGetAttributes(&attributes, instance.function), instance.name);
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, instance.function, kThreads, 0), instance.name);
    pybind11::dict kernel;
    kernel["name"] = instance.name;
    kernel["registers"] = attributes.numRegs;
    kernel["shared_bytes"] = attributes.sharedSizeBytes;
    kernel["local_bytes"] = attributes.localSizeBytes;  // spills and stack, per thread
    kernel["architecture"] = attributes.binaryVersion;
    kernel["threads"] = kThreads;
    kernel["blocks_per_multiprocessor"] = blocks;
    found.append(kernel);
  }
  check(cudaSetDevice(before), "selecting the device");
  return found;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "bam_fused's CUDA library: its operators are torch.ops.bam_fused.*";
  m.def("build_info", [] {
    pybind11::dict info;
    info["compiler"] = BAM_COMPILER;
    info["toolkit"] = BAM_TOOLKIT;
    info["architectures"] = BAM_ARCHITECTURES;
    info["flags"] = BAM_FLAGS;
    info["torch_headers"] = BAM_TORCH_VERSION;
    info["torch_target"] = BAM_TORCH_TARGET;
    return info;
  });
  m.def("kernels", &kernels, pybind11::arg("device") = 0,
        "For each kernel on a device: registers, shared and local bytes, architecture of the code, resident blocks.");
}
