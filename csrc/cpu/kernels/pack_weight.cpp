// [outputs, inputs, taps] -> [taps, factors, padded outputs], which hold one or two inputs; zeros in the padding. For
// the factors begin to end.
#include "pack_weight.h"

#include "columns.h"
#include "register_block.h"
#include "shuffle.h"

namespace bam_fused::cpu {
namespace {

template <class A> inline void store_input(A* to, Vec<A> numbers, int64_t) { store(to, numbers); }

#if defined(__AVX512BF16__)
// The first input of a pair clears what is the place of the second one, which comes after it, if at all.
inline void store_input(BFloat16Pair* to, Vec<float> numbers, int64_t input) {
  const __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)numbers));
  if (input % 2 == 0) {
    _mm512_storeu_si512(to, bits);
  } else {
    _mm512_mask_storeu_epi16(to, 0xaaaaaaaa, _mm512_slli_epi32(bits, 16));
  }
}
#endif

// Square blocks, transposed in registers: as many outputs as a vector has lanes, by as many of an output's numbers.
template <class T, class F> inline void pack(const PackArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  constexpr int64_t lanes = kLanes<A>;
  const int64_t row = padded<A>(a.outputs), length = a.inputs * a.taps, depth = factors<F>(a.inputs);
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
    if (a.pairs) return pack<T, Factor<BFloat16>>(a, begin, end);
  }
  pack<T, Compute<T>>(a, begin, end);
}

}  // namespace

BAM_KERNEL(PackArguments, pack_weight)

}  // namespace bam_fused::cpu
