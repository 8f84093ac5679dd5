// [outputs, inputs, taps] -> [taps, inputs, padded outputs], zeros in the padding; for the inputs begin to end.
#include "pack_weight.h"

#include "columns.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

// A few inputs at a time: what lies in one cache line of the weight is used together.
template <class A> void pack_weight(const PackArguments& a, int64_t begin, int64_t end) {
  constexpr int64_t at_once = 64 / (int64_t)sizeof(A);
  const int64_t row = padded<A>(a.outputs);
  A* packed = (A*)a.packed;
  for (int64_t first = begin; first < end; first += at_once) {
    const int64_t last = first + at_once < end ? first + at_once : end;
    for (int64_t o = 0; o < row; ++o) {
      const A* from = (const A*)a.weight + o * a.inputs * a.taps;
      for (int64_t i = first; i < last; ++i) {
        for (int64_t tap = 0; tap < a.taps; ++tap) {
          packed[(tap * a.inputs + i) * row + o] = o < a.outputs ? from[i * a.taps + tap] : A(0);
        }
      }
    }
  }
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(PackArguments, pack_weight)

}  // namespace bam_fused::cpu
