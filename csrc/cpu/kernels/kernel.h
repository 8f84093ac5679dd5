// How an operator finds its kernels.
//
// A header, of an operation that both libraries have in operations/, else of this folder, says what a kernel is given;
// the source of its name is the kernel, which the build compiles once for each instruction set, with
// BAM_INSTRUCTION_SET (its name) and BAM_VECTOR_BYTES (the width of its vectors). Nothing here includes a header of
// PyTorch or of the C++ library, so that no function compiled for AVX-512 can be linked into code that runs without it.
#pragma once

#include <stdint.h>

#include "../../shared/dtype.h"

namespace bam_fused::cpu {

// A kernel for each dtype; each call does the tiles (or parts, samples, inputs, tasks) begin to end, exclusive. The
// arguments of a kernel hold one of these for every instruction set.
template <class Arguments> struct ForDtypes {
  using Kernel = void (*)(const Arguments&, int64_t begin, int64_t end);
  Kernel kernels[kDtypes];

  Kernel operator[](Dtype dtype) const { return kernels[(int)dtype]; }
};

struct VectorBytes {
  static const int64_t baseline, avx2, avx512, avx512_bf16;
};

}  // namespace bam_fused::cpu

// In a kernel's source: that `kernel`, a template of the dtype, is what takes these arguments.
#define BAM_KERNEL(Arguments, kernel)                           \
  const ForDtypes<Arguments> Arguments::BAM_INSTRUCTION_SET = { \
      {kernel<double>, kernel<float>, kernel<BFloat16>, kernel<Float16>}};

// The same for a kernel of the tiles of a call (tiled.h).
#define BAM_TILED_KERNEL(Call, kernel)                                          \
  template <> const ForDtypes<Tiled<Call>> Tiled<Call>::BAM_INSTRUCTION_SET = { \
      {kernel<double>, kernel<float>, kernel<BFloat16>, kernel<Float16>}};

// For a kernel that knows the compute type alone.
#define BAM_KERNEL_OF_COMPUTE_TYPE(Arguments, kernel)           \
  const ForDtypes<Arguments> Arguments::BAM_INSTRUCTION_SET = { \
      {kernel<double>, kernel<float>, kernel<float>, kernel<float>}};
