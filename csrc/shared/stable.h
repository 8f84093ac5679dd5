// The headers of the LibTorch stable ABI, and PyTorch's errors in its own words.
//
// Built with -DTORCH_TARGET_VERSION=0x020a000000000000, one binary serves torch 2.10 and every later release.
#pragma once

#include <stdexcept>
#include <string>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>
#if __has_include(<torch/csrc/stable/macros.h>)
#include <torch/csrc/stable/macros.h>
#endif

// In torch 2.13 and later; weak, so that before it is only a null pointer.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace bam_fused {

// The error of a call of PyTorch that has failed, in PyTorch's own words where it hands them over.
[[noreturn]] inline void throw_error_of(const char* call) {
  bool told = torch_exception_get_what_without_backtrace != nullptr;
  const char* what = told ? torch_exception_get_what_without_backtrace() : nullptr;
  throw std::runtime_error(what == nullptr ? std::string(call) + " failed" : what);
}

}  // namespace bam_fused

// In the headers below: theirs prints some thirty lines of stack to stderr before it throws.
#undef TORCH_ERROR_CODE_CHECK
#undef STABLE_TORCH_ERROR_CODE_CHECK
#define TORCH_ERROR_CODE_CHECK(call) \
  if ((call) != TORCH_SUCCESS) { ::bam_fused::throw_error_of(#call); }
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace bam_fused {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

}  // namespace bam_fused
