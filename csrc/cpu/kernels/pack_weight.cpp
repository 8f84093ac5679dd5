// [outputs, inputs, taps] -> [taps, inputs, padded outputs], zeros in the padding; for the inputs begin to end.
#include "pack_weight.h"

#include "columns.h"
#include "register_block.h"
#include "shuffle.h"

namespace bam_fused::cpu {
namespace {

// Square blocks, transposed in registers: as many outputs as a vector has lanes, by as many of an output's numbers.
template <class T> void pack_weight(const PackArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  constexpr int64_t lanes = kLanes<A>;
  const int64_t row = padded<A>(a.outputs), length = a.inputs * a.taps, first = begin * a.taps;
  for_columns<A>(end * a.taps - first, [&](int64_t column, auto part) {
    const int64_t k = first + column, count = count_of<A>(part);
    A* to[lanes];
    for (int64_t i = 0; i < count; ++i) to[i] = (A*)a.packed + ((k + i) % a.taps * a.inputs + (k + i) / a.taps) * row;
    for (int64_t o = 0; o < row; o += lanes) {
      Vec<A> block[lanes];
      for (int64_t i = 0; i < lanes; ++i) {
        block[i] = o + i < a.outputs ? load((const T*)a.weight + (o + i) * length + k, part) : Vec<A>{};
      }
      transpose<A>(block);
      for (int64_t i = 0; i < count; ++i) store(to[i] + o, block[i]);
    }
  });
}

}  // namespace

BAM_KERNEL(PackArguments, pack_weight)

}  // namespace bam_fused::cpu
