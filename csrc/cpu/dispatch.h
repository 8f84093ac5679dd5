// What the CPU operators share: the instruction set in use, how a launch is cut into tiles, and workspaces.
#pragma once

#include <algorithm>

#include "../shared/feature_map.h"
#include "instruction_set.h"
#include "kernels/kernel.h"
#include "kernels/tiling.h"

namespace bam_fused {

struct Target {
  const Tensor& x;  // what the workspaces are made like
};

namespace cpu {

// The kernel that takes these arguments, of the instruction set in use.
template <class Arguments> typename ForDtypes<Arguments>::Kernel kernel_for(Dtype dtype) {
  switch (instruction_set()) {
#ifdef BAM_X86_64
    case InstructionSet::avx512_bf16: return Arguments::avx512_bf16[dtype];
    case InstructionSet::avx512: return Arguments::avx512[dtype];
    case InstructionSet::avx2: return Arguments::avx2[dtype];
#endif
    default: return Arguments::baseline[dtype];
  }
}

// How many pieces of at most so much, at least one.
inline int64_t split(int64_t length, int64_t most) { return std::max<int64_t>(1, (length + most - 1) / most); }

// Cuts a launch over feature maps into tiles, each sample in the same way however many there are: its results do not
// depend on the batch that it comes in.
Tiling tiling_of(const Extent& extent, Dtype dtype);

// The same into tiles of at most so many rows.
Tiling tiling_of(const Extent& extent, Dtype dtype, int64_t most_rows);

constexpr int64_t kFewElements = 8192;    // a sample that is small anyway
constexpr int64_t kWorthAThread = 32768;  // so many elements

// An uninitialised contiguous tensor of the compute type.
Tensor workspace(const Tensor& x, std::initializer_list<int64_t> sizes);

// Logits as the kernels read them: contiguous, in the compute type of x.
Tensor as_compute_dtype(const Tensor& logits, const Tensor& x);

// out[sample, i] = scale * sum over partials of in[sample, partial, i]; `interleaved` as in SumPartialsArguments.
void sum_partials(
    const Tensor& x, const Tensor& in, const Tensor& out, int64_t samples, int64_t partials, double scale,
    int64_t interleaved = 1);

// Runs the kernel that takes these arguments over all its tiles on PyTorch's threads, at once where that would cost
// more than it saves.
template <class Arguments>
void for_tiles(const Arguments& arguments, Dtype dtype, int64_t tiles, int64_t elements) {
  const auto kernel = kernel_for<Arguments>(dtype);
  if (elements <= kWorthAThread) {
    kernel(arguments, 0, tiles);
  } else {
    torch::stable::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
  }
}

}  // namespace cpu
}  // namespace bam_fused
