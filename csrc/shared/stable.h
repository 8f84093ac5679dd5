// The LibTorch stable ABI: the only door through which this project reaches PyTorch from C++.
//
// Built with -DTORCH_TARGET_VERSION=0x020a000000000000, one binary serves torch 2.10 and every later release.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace bam_fused {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

}  // namespace bam_fused
