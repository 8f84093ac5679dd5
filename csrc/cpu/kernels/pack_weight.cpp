// [outputs, inputs, taps] -> [taps, inputs, padded outputs], zeros in the padding; for the inputs begin to end.
#include "pack_weight.h"

#include "columns.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

template <class A> void pack_weight(const PackArguments& a, int64_t begin, int64_t end) {
  const int64_t row = padded<A>(a.outputs);
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t tap = 0; tap < a.taps; ++tap) {
      A* to = (A*)a.packed + (tap * a.inputs + i) * row;
      const A* from = (const A*)a.weight + i * a.taps + tap;
      for (int64_t o = 0; o < a.outputs; ++o) to[o] = from[o * a.inputs * a.taps];
      for (int64_t o = a.outputs; o < row; ++o) to[o] = 0;
    }
  }
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(PackArguments, pack_weight)

}  // namespace bam_fused::cpu
