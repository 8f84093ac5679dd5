// The second half of every reduction: the tiles' partial sums, added in a fixed order and written in the output's
// dtype.
#include "sum_partials.h"

#include "columns.h"

namespace bam_fused::cpu {
namespace {

// Compensated (Kahan): there can be hundreds of partial sums, and they cost next to nothing beside what they sum up.
template <class A, class Load> inline A compensated_sum(int64_t count, Load&& load_partial) {
  A sum = load_partial(0), lost{};
  for (int64_t p = 1; p < count; ++p) {
    const A addend = load_partial(p) - lost;
    const A next = sum + addend;
    lost = (next - sum) - addend;
    sum = next;
  }
  return sum;
}

template <class A, class Out> void sum_partials_to(const SumPartialsArguments& a, int64_t begin, int64_t end) {
  for (int64_t sample = begin; sample < end; ++sample) {
    const A* in = (const A*)a.in + sample * a.partials * a.length;
    const int64_t first = sample % a.interleaved;
    Out* out = (Out*)a.out + (sample - first) * a.length + first;
    const A scale = (A)a.scale;
    for_columns<A>(a.length, [&](int64_t k, auto part) {
      const auto partial = [&](int64_t p) { return load(in + p * a.length + k, part); };
      const Vec<A> sum = compensated_sum<Vec<A>>(a.partials, partial) * scale;
      if (a.interleaved == 1) {
        store(out + k, sum, part);
      } else {
        Out lanes[kLanes<A>];
        store(lanes, sum);
        for (int64_t i = 0; i < count_of<A>(part); ++i) out[(k + i) * a.interleaved] = lanes[i];
      }
    });
  }
}

// Sums in the compute type of T. The output's dtype is float32 or that of x; float64 sums go to float32 logits one by
// one.
template <class T> void sum_partials(const SumPartialsArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  if (a.out_dtype != Dtype::float32) return sum_partials_to<A, T>(a, begin, end);
  if constexpr (sizeof(A) == sizeof(float)) {
    sum_partials_to<A, float>(a, begin, end);
  } else {
    for (int64_t i = begin * a.length; i < end * a.length; ++i) {
      const A* in = (const A*)a.in + i / a.length * a.partials * a.length + i % a.length;
      const A sum = compensated_sum<A>(a.partials, [&](int64_t p) { return in[p * a.length]; });
      ((float*)a.out)[i] = (float)(sum * a.scale);
    }
  }
}

}  // namespace

BAM_KERNEL(SumPartialsArguments, sum_partials)

}  // namespace bam_fused::cpu
