// The second half of every reduction: the tiles' partial sums, added in a fixed order and written in the output's
// dtype.
#include "sum_partials.h"

#include "columns.h"
#include "shuffle.h"

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

// Of one sample, at column k.
template <class A, class Part>
inline Vec<A> sum_at(const SumPartialsArguments& a, int64_t sample, int64_t k, Part part) {
  const A* in = (const A*)a.in + sample * a.partials * a.length + k;
  return compensated_sum<Vec<A>>(a.partials, [&](int64_t p) { return load(in + p * a.length, part); }) * (A)a.scale;
}

// Samples that take turns, as many at a time as a vector has lanes: written one by one their sums would lie far apart.
template <class A, class Out> void sum_interleaved(const SumPartialsArguments& a, int64_t begin, int64_t end) {
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t sample = begin, next; sample < end; sample = next) {
    const int64_t first = sample % a.interleaved;
    next = sample - first + a.interleaved < end ? sample - first + a.interleaved : end;
    if (next - sample > lanes) next = sample + lanes;
    const int64_t count = next - sample;
    Out* out = (Out*)a.out + (sample - first) * a.length + first;
    for_columns<A>(a.length, [&](int64_t k, auto part) {
      Vec<A> block[lanes];
      for (int64_t i = 0; i < lanes; ++i) block[i] = i < count ? sum_at<A>(a, sample + i, k, part) : Vec<A>{};
      transpose<A>(block);
      for (int64_t i = 0; i < count_of<A>(part); ++i) {
        Out* to = out + (k + i) * a.interleaved;
        count == lanes ? store(to, block[i]) : store(to, block[i], Short{count});
      }
    });
  }
}

template <class A, class Out> void sum_partials_to(const SumPartialsArguments& a, int64_t begin, int64_t end) {
  if (a.interleaved > 1) return sum_interleaved<A, Out>(a, begin, end);
  for (int64_t sample = begin; sample < end; ++sample) {
    Out* out = (Out*)a.out + sample * a.length;
    for_columns<A>(a.length, [&](int64_t k, auto part) { store(out + k, sum_at<A>(a, sample, k, part), part); });
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
