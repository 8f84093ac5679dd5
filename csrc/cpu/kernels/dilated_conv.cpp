// The dilated 3x3 convolution on the few channels of BAM's spatial branch, which keeps the map's size (padding =
// dilation).
//
// A block of sums is a run of positions of one row by one or two vectors of output channels. Taps that fall outside the
// map are left out, not multiplied with zeros: a row is cut into segments in which the same columns of the kernel
// count.
#include "dilated_conv.h"

#include "norm_sums.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

struct Segment {
  int64_t begin, end;          // columns of the map
  int64_t tap_begin, tap_end;  // columns of the kernel
};

// The segments of a row; the number of them.
inline int row_segments(int64_t width, int64_t dilation, Segment (&segments)[3]) {
  const int64_t from_left = dilation < width ? dilation : width;  // from here on the left tap counts
  const int64_t to_right = width - from_left;                     // up to here the right tap counts
  const int64_t low = from_left < to_right ? from_left : to_right, high = from_left < to_right ? to_right : from_left;
  const int64_t cuts[4] = {0, low, high, width};
  int count = 0;
  for (int i = 0; i < 3; ++i) {
    if (cuts[i] == cuts[i + 1]) continue;
    segments[count++] = {cuts[i], cuts[i + 1], cuts[i] >= from_left ? 0 : 1, cuts[i] >= to_right ? 2 : 3};
  }
  return count;
}

// Rows of one sample, and the rows of the kernel to go through: all at once where the weights for a block of outputs
// fit the L1 cache, else one after the other.
struct ConvRows {
  int64_t sample, begin, end;
  int64_t tap_begin, tap_end;
};

// Sums are taken tap by tap, or kernel row by kernel row where a tap has fewer products than these, and then added up:
// one long run of additions rounds worse than the library's convolution.
constexpr int64_t kFewestProducts = 24;

// The sums of `rows` positions from `column` on, in each of the map's rows in turn.
template <class F, int rows, int vectors>
__attribute__((noinline)) void convolve_columns(
    const DilatedConvArguments& a, const ConvRows& where, const Segment& segment, int64_t column, int64_t output) {
  using A = Compute<F>;
  const int64_t out_row = padded<A>(a.outputs), weight_row = padded<A>(a.weight.outputs), depth = depth_of<F>(a.inputs);
  const F* in = (const F*)a.in.at(where.sample);
  A* out = (A*)a.out.at(where.sample);
  const bool taps_apart = depth >= kFewestProducts;
  for (int64_t y = where.begin; y < where.end; ++y) {
    const int64_t first = y < a.dilation ? 1 : 0, last = y + a.dilation >= a.height ? 2 : 3;  // kernel rows on the map
    const int64_t begin = where.tap_begin > first ? where.tap_begin : first,
                  end = where.tap_end < last ? where.tap_end : last;
    if (begin >= end) continue;
    const int64_t place = y * a.width + column;
    A* to = out + place * out_row + output;
    Block<A, rows, vectors> sum;
    sum.clear();
    A before[rows * vectors * kLanes<A>];  // the sums so far, while those of another run begin at 0
    bool is_first = true;
    for (int64_t ky = begin; ky < end; ++ky) {
      for (int64_t kx = segment.tap_begin, run_end; kx < segment.tap_end; kx = run_end) {
        run_end = taps_apart ? kx + 1 : segment.tap_end;
        if (!is_first) {
          sum.store_to(before, vectors * kLanes<A>);
          sum.clear();
        }
        for (int64_t tap = kx; tap < run_end; ++tap) {
          const int64_t position = (y + (ky - 1) * a.dilation) * a.width + column + (tap - 1) * a.dilation;
          const F* weight =
              (const F*)a.weight.data + (ky * 3 + tap) * depth * weight_row + output - a.weight.first_output;
          sum.add_products(in + position * a.in_row, a.in_row, 1, weight, weight_row, depth);
        }
        if (!is_first) sum.add(before, vectors * kLanes<A>);
        is_first = false;
      }
    }
    if (begin > first) sum.add(to, out_row);
    if (end == last) sum.finish(a.finish, output);
    if (end == last && a.rounded.data) {
      sum.store_to((Number<F>*)a.rounded.at(where.sample) + place * a.rounded_row + output, a.rounded_row);
    } else {
      sum.store_to(to, out_row);
    }
  }
}

template <class F> void convolve_rows(const DilatedConvArguments& a, const ConvRows& where) {
  Segment segments[3];
  const int count = row_segments(a.width, a.dilation, segments);
  for_vector_pairs<Compute<F>>(a.weight.outputs, [&](int64_t packed_output, auto vectors) {
    constexpr int v = decltype(vectors)::value;
    const int64_t output = a.weight.first_output + packed_output;
    for (int i = 0; i < count; ++i) {
      const Segment& segment = segments[i];
      for_even_blocks(segment.end - segment.begin, kBlockRows<v>, [&](int64_t begin, int64_t size) {
        with_constant<kBlockRows<v>>(size, [&](auto rows) {
          convolve_columns<F, decltype(rows)::value, v>(a, where, segment, segment.begin + begin, output);
        });
      });
    }
  });
}

template <class T> void dilated_conv(const DilatedConvArguments& a, int64_t begin, int64_t end) {
  using F = Factor<T>;
  using A = Compute<F>;
  constexpr int64_t weights_in_l1 = 20480 / (kBlockVectors * BAM_VECTOR_BYTES);  // their rows
  const int64_t step = 9 * depth_of<F>(a.inputs) <= weights_in_l1 ? 3 : 1;
  for (int64_t index = begin, next; index < end; index = next) {
    const int64_t sample = index / a.parts;  // neighbouring parts of a sample go together
    next = (sample + 1) * a.parts < end ? (sample + 1) * a.parts : end;
    const int64_t row = (index - sample * a.parts) * a.part_rows, last = (next - sample * a.parts) * a.part_rows;
    const int64_t rows_end = last < a.height ? last : a.height;
    for (int64_t tap = 0; tap < 3; tap += step) convolve_rows<F>(a, {sample, row, rows_end, tap, tap + step});
    take_sums(a.statistics, sample, row * a.width, rows_end * a.width, norm_statistics<A>);
    take_sums(a.grad_sums, sample, row * a.width, rows_end * a.width, norm_grad_sums<A>);
  }
}

}  // namespace

BAM_KERNEL(DilatedConvArguments, dilated_conv)

}  // namespace bam_fused::cpu
