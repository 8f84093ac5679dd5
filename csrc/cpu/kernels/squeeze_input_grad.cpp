// The gradient of x behind a squeeze, and behind the gate that follows it, on one tile, in one write:
//
//   dx = grad + grad * sigmoid(combine(row logit, column logit)) + left * right + pooled gradient / positions
//
// left * right is W^T times the gradient of the reduced map: [channels, reduced] * [reduced, positions] where rows are
// channels, the transpose of it where they are positions. The terms of grad are left out where no gate follows.
#include "squeeze_input_grad.h"

#include "gate_at.h"
#include "packing.h"
#include "products.h"
#include "tiles.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kGatedRows = 30;  // rows whose logits are at hand at a time: whole blocks of every instruction set
static_assert(kGatedRows <= kMaxTileRows);

template <class F, class A = Compute<F>> struct InputGradTile {
  alignas(64) F right[kMaxReducedTile];
  alignas(64) F left[kNumbers<F> > 1 ? kGatedRows * kMaxReduced / kNumbers<F> : 1];
  alignas(64) A products[kGatedRows * packed_stride<A>(kMaxInputGradColumns)];
  int64_t right_stride;
  TileLogits<A> logits;
};

template <class A>
inline const A* reduced_grad_of(const SqueezeInputGradArguments& a, const Tile& tile) {
  return (const A*)a.reduced_grad + tile.sample * a.positions * a.reduced;
}

// The left factor of `count` rows from `row` on, and the stride between them.
template <class F, class A = Compute<F>>
inline const F* left_rows(
    const SqueezeInputGradArguments& a, const Tile& tile, int64_t row, int64_t count, InputGradTile<F>& memory,
    int64_t& stride) {
  stride = a.left_row;
  if (a.rows_are_channels) return (const F*)a.turned_weight + row * stride;
  const A* grad = reduced_grad_of<A>(a, tile) + row * stride;
  if constexpr (kNumbers<F> == 1) {
    return grad;
  } else {
    stride = padded<F>(depth_of<F>(a.reduced));
    pack_along(memory.left, stride, grad, a.left_row, count, a.reduced);
    return memory.left;
  }
}

template <class T, class F = Factor<T>, class A = Compute<T>>
inline void pack_right(const SqueezeInputGradArguments& a, const Tile& tile, InputGradTile<F>& memory) {
  const int64_t stride = memory.right_stride = packed_stride<A>(tile.columns);
  const A* grad = reduced_grad_of<A>(a, tile);
  if (!a.rows_are_channels) {
    pack_down(memory.right, stride, (const T*)a.weight + tile.column, a.channels, a.reduced, tile.columns);
  } else if (a.grad_has_positions_as_rows) {
    pack_transposed(memory.right, stride, grad + tile.column * a.reduced, a.reduced, tile.columns, a.reduced);
  } else {
    pack_down(memory.right, stride, grad + tile.column, a.positions, a.reduced, tile.columns);
  }
}

// The products of rows whose logits are at hand. Meanwhile their numbers of `grad` are on their way: the rows of a tile
// are short and lie far apart, so that the processor does not see them coming.
template <class T, class F = Factor<T>, class A = Compute<T>>
__attribute__((noinline)) void multiply_rows(
    const Factors<F>& factors, int64_t rows, int64_t columns, A* products, const T* grad, int64_t grad_row) {
  for_product_blocks(factors, rows, columns, [&](const auto& block, int64_t row, int64_t column) {
    if (grad) {
      const T* ahead = grad + row * grad_row + column;
      block.each([&](int m, int v) {
        constexpr int line = 64 / (int)sizeof(T);
        if (v * kLanes<A> % line == 0) __builtin_prefetch(ahead + m * grad_row + v * kLanes<A>, 0, 3);
      });
    }
    block.store_to(products + row * factors.right_row + column, factors.right_row);
  });
}

// One row, number `row` of those whose logits are at hand, from its products.
template <class T, bool gated, Combine combine, bool inside, class A = Compute<T>>
inline void finish_row(
    const SqueezeInputGradArguments& a, const Tile& tile, const TileLogits<A>& logits, int64_t row, const A* products,
    const T* grad, T* dx, A row_pooled, const A* column_pooled) {
  const Vec<A> same = splat(row_pooled);
  for_columns<A>(tile.columns, [&](int64_t k, auto part) {
    Vec<A> sum = load(products + k) + (column_pooled ? load(column_pooled + k, part) : same);
    if constexpr (gated) {
      const Vec<A> g = load(grad + k, part);
      sum += g * gate_at<T, combine, inside>(logits, row, k).value + g;
    }
    store(dx + k, sum, part);
  });
}

// Rows `first` to `first + count` of the tile, whose logits are at hand.
template <class T, bool gated, Combine combine, bool inside, class F = Factor<T>, class A = Compute<T>>
void input_grad_rows(
    const SqueezeInputGradArguments& a, const Tile& tile, InputGradTile<F>& memory, int64_t first, int64_t count) {
  const int64_t stride = memory.right_stride, row = tile.row + first;
  int64_t left_row;
  const F* left = left_rows(a, tile, row, count, memory, left_row);
  const Factors<F> factors{left, left_row, 1, memory.right, stride, depth_of<F>(a.reduced)};
  const T* grad = gated ? row_at<const T>(a.grad, tile, first) : nullptr;
  multiply_rows(factors, count, tile.columns, memory.products, grad, a.grad.strides.row);
  const A* pooled = (const A*)a.pooled_grad + tile.sample * a.channels;
  for (int64_t r = 0; r < count; ++r) {
    finish_row<T, gated, combine, inside>(
        a, tile, memory.logits, r, memory.products + r * stride, gated ? grad + r * a.grad.strides.row : nullptr,
        row_at<T>(a.dx, tile, first + r), a.rows_are_channels ? pooled[row + r] : A(0),
        a.rows_are_channels ? nullptr : pooled + tile.column);
  }
}

template <class T, Combine combine, class F = Factor<T>, class A = Compute<T>>
void input_grad_gated_tile(const SqueezeInputGradArguments& a, const Tile& tile, InputGradTile<F>& memory) {
  const A* row_logits = (const A*)a.row_logits + tile.sample * a.tiling.rows + tile.row;
  const A* column_logits = (const A*)a.column_logits + tile.sample * a.tiling.columns + tile.column;
  const A column = memory.logits.column.load_logits(column_logits, tile.columns);
  if (inside_range<combine>(A(0), column)) memory.logits.column.template separate<combine, false>(tile.columns);
  for (int64_t first = 0; first < tile.rows; first += kGatedRows) {
    const int64_t count = tile.rows - first < kGatedRows ? tile.rows - first : kGatedRows;
    const A row = memory.logits.row.load_logits(row_logits + first, count);
    if (inside_range<combine>(row, column)) {
      memory.logits.row.template separate<combine, false>(count);
      input_grad_rows<T, true, combine, true>(a, tile, memory, first, count);
    } else {
      input_grad_rows<T, true, combine, false>(a, tile, memory, first, count);
    }
  }
}

template <class T> void squeeze_input_grad(const SqueezeInputGradArguments& a, int64_t begin, int64_t end) {
  InputGradTile<Factor<T>> memory;
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = tile_at(a.tiling, index);
    pack_right<T>(a, tile, memory);
    if (!a.grad.data) {
      for (int64_t first = 0; first < tile.rows; first += kGatedRows) {
        const int64_t count = tile.rows - first < kGatedRows ? tile.rows - first : kGatedRows;
        input_grad_rows<T, false, Combine::sum, false>(a, tile, memory, first, count);
      }
    } else if (a.combine == Combine::sum) {
      input_grad_gated_tile<T, Combine::sum>(a, tile, memory);
    } else if (a.combine == Combine::product) {
      input_grad_gated_tile<T, Combine::product>(a, tile, memory);
    } else {
      input_grad_gated_tile<T, Combine::max>(a, tile, memory);
    }
  }
}

}  // namespace

BAM_KERNEL(SqueezeInputGradArguments, squeeze_input_grad)

}  // namespace bam_fused::cpu
