// [outputs, inputs, taps] -> [taps, inputs, padded outputs] as factors, zeros in the padding; for the inputs, or pairs
// of them, begin to end.
#include "pack_weight.h"

#include "columns.h"
#include "register_block.h"
#include "shuffle.h"

namespace bam_fused::cpu {
namespace {

template <class F> inline void store_input(F* to, Vec<Compute<F>> numbers, int64_t) { store(to, numbers); }

#if defined(__AVX512BF16__)
// The first input of a pair clears what is the place of the second one, which comes after it, if at all.
inline void store_input(BFloat16Pair* to, Vec<float> numbers, int64_t input) {
  if (input % 2 == 0) {
    store(to, pairs_of(numbers, Vec<float>{}));
  } else {
    _mm512_mask_storeu_epi16(to, 0xaaaaaaaa, (__m512i)pairs_of(Vec<float>{}, numbers));
  }
}
#endif

// Square blocks, transposed in registers: as many outputs as a vector has lanes, by as many of an output's numbers.
// What is written is factors of inputs, or numbers that side by side are factors.
template <class T, class F> inline void pack(const PackArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  constexpr int64_t lanes = kLanes<A>;
  const int64_t row = padded<A>(a.outputs), length = a.inputs * a.taps, depth = depth_of<F>(a.inputs);
  const int64_t first = begin * kNumbers<F>, last = end * kNumbers<F> < a.inputs ? end * kNumbers<F> : a.inputs;
  for_columns<A>((last - first) * a.taps, [&](int64_t column, auto part) {
    const int64_t k = first * a.taps + column, count = count_of<A>(part);
    F* to[lanes];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t input = (k + i) / a.taps, tap = (k + i) % a.taps;
      to[i] = (F*)a.packed + (tap * depth + input / kNumbers<F>)*row;
    }
    for (int64_t o = 0; o < row; o += lanes) {
      Vec<A> block[lanes];
      for (int64_t i = 0; i < lanes; ++i) {
        block[i] = o + i < a.outputs ? load((const T*)a.weight + (o + i) * length + k, part) : Vec<A>{};
      }
      transpose<A>(block);
      for (int64_t i = 0; i < count; ++i) store_input(to[i] + o, block[i], (k + i) / a.taps);
    }
  });
}

template <class T> void pack_weight(const PackArguments& a, int64_t begin, int64_t end) {
  if constexpr (kNumbers<Factor<BFloat16>> > 1 && sizeof(Compute<T>) == sizeof(float)) {
    if (a.pairs == Pairs::of_inputs) return pack<T, Factor<BFloat16>>(a, begin, end);
    if (a.pairs == Pairs::of_outputs) return pack<T, BFloat16>(a, begin, end);
  }
  pack<T, Compute<T>>(a, begin, end);
}

}  // namespace

BAM_KERNEL(PackArguments, pack_weight)

}  // namespace bam_fused::cpu
