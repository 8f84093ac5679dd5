// Features as the factors of a convolution and of its weight's gradient, where factors are pairs of numbers; for the
// map's rows begin to end of all samples.
#include "feature_factors.h"

#include "register_block.h"

namespace bam_fused::cpu {
namespace {

template <class T> void feature_factors(const FeatureFactorsArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  using F = Factor<T>;
  if constexpr (kNumbers<F> > 1) {
    const int64_t stride = padded<A>(a.channels);
    for (int64_t index = begin; index < end; ++index) {
      const int64_t sample = index / a.height, first = index % a.height * a.width * stride;
      const A* in = (const A*)a.in.at(sample) + first;
      F* of_channels = a.of_channels.data ? (F*)a.of_channels.at(sample) + first : nullptr;
      F* of_positions = a.of_positions.data ? (F*)a.of_positions.at(sample) + first : nullptr;
      for (int64_t k = 0; k < stride; k += kLanes<A>) {
        Vec<A> next = load(in + k);
        for (int64_t x = 0; x < a.width; ++x) {
          const Vec<A> v = next;
          next = x + 1 < a.width ? load(in + (x + 1) * stride + k) : Vec<A>{};
          if (of_channels) store((Number<F>*)(of_channels + x * stride) + k, v);
          if (of_positions) store(of_positions + x * stride + k, pairs_of(v, next));
        }
      }
    }
  }
}

}  // namespace

BAM_KERNEL(FeatureFactorsArguments, feature_factors)

}  // namespace bam_fused::cpu
