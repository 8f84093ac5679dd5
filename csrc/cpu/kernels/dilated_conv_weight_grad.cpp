// The gradient of a dilated 3x3 convolution's weight, on features [positions, channels]: per tap, over samples and positions, the
// output's gradient times the input that the tap met there.
//
// A strip is a few rows of the map, a split a run of strips over all samples; each split has sums of its own, which are added
// in a fixed order.
#include "dilated_conv_weight_grad.h"

#include "products.h"

namespace bam_fused::cpu {
namespace {

// What a tap meets: rows (or columns) begin to end of the output's strip lie on the map after moving by `offset`.
struct Reach {
  int64_t begin, end;
};

inline Reach reach(int64_t begin, int64_t end, int64_t offset, int64_t size) {
  return {begin < -offset ? -offset : begin, end > size - offset ? size - offset : end};
}

template <class A>
inline void add_tap(
    const DilatedConvWeightGradArguments& a, int64_t sample, const Reach& strip, int64_t ky, int64_t kx, A* sums,
    int64_t sums_stride) {
  const int64_t in_row = padded<A>(a.inputs), out_row = padded<A>(a.outputs);
  const int64_t down = (ky - 1) * a.dilation, right = (kx - 1) * a.dilation;
  const Reach y = reach(strip.begin, strip.end, down, a.height), x = reach(0, a.width, right, a.width);
  if (y.begin >= y.end || x.begin >= x.end) return;
  const A* grad = (const A*)a.grad.at(sample) + (y.begin * a.width + x.begin) * out_row;
  const A* in = (const A*)a.in.at(sample) + ((y.begin + down) * a.width + x.begin + right) * in_row;
  Factors<A> factors{grad, 1, out_row, in, in_row, x.end - x.begin};
  factors.runs = y.end - y.begin;
  factors.left_run = a.width * out_row;
  factors.right_run = a.width * in_row;
  add_product(sums, sums_stride, a.outputs, a.inputs, factors);
}

template <class A> void dilated_conv_weight_grad(const DilatedConvWeightGradArguments& a, int64_t begin, int64_t end) {
  const int64_t strips_per_sample = (a.height + a.strip_rows - 1) / a.strip_rows,
                strips = a.samples * strips_per_sample;
  const int64_t sums_stride = a.splits * a.inputs;
  for (int64_t split = begin; split < end; ++split) {
    A* sums = (A*)a.partials + split * a.inputs;
    for (int64_t row = 0; row < 9 * a.outputs; ++row) memset(sums + row * sums_stride, 0, a.inputs * sizeof(A));
    for (int64_t s = split * strips / a.splits; s < (split + 1) * strips / a.splits; ++s) {
      const int64_t row = s % strips_per_sample * a.strip_rows;
      const Reach strip{row, row + a.strip_rows < a.height ? row + a.strip_rows : a.height};
      for (int64_t tap = 0; tap < 9; ++tap) {
        add_tap<A>(
            a, s / strips_per_sample, strip, tap / 3, tap % 3, sums + tap * a.outputs * sums_stride, sums_stride);
      }
    }
  }
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(DilatedConvWeightGradArguments, dilated_conv_weight_grad)

}  // namespace bam_fused::cpu
