// Products of tiles in memory, block by block: what the gradients of BAM's layers are made of.
#pragma once

#include "columns.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

// The two factors of a product: left[row, k] one by one, right[k, column] by vectors, so that right's rows run along
// the columns and are readable up to whole vectors. The sum over k may be cut into runs; from one to the next both move
// by their own steps.
template <class F> struct Factors {
  const F* left;
  int64_t left_row, left_step;  // from row to row, from k to k
  const F* right;
  int64_t right_row;
  int64_t depth;
  int64_t runs = 1, left_run = 0, right_run = 0;
};

// Calls finish(block, row, column) for each block of left * right.
template <class F, class Finish>
inline void for_product_blocks(const Factors<F>& f, int64_t rows, int64_t columns, Finish&& finish) {
  using A = Compute<F>;
  for_vector_pairs<A>(columns, [&](int64_t column, auto constant) {
    constexpr int vectors = decltype(constant)::value;
    for_even_blocks(rows, kBlockRows<vectors>, [&](int64_t row, int64_t size) {
      with_constant<kBlockRows<vectors>>(size, [&](auto block_rows) {
        Block<A, decltype(block_rows)::value, vectors> block;
        block.clear();
        for (int64_t run = 0; run < f.runs; ++run) {
          block.add_products(
              f.left + row * f.left_row + run * f.left_run, f.left_row, f.left_step,
              f.right + column + run * f.right_run, f.right_row, f.depth);
        }
        finish(block, row, column);
      });
    });
  });
}

template <class A, int rows, int vectors>
inline void add_block(const Block<A, rows, vectors>& block, A* to, int64_t stride, int64_t columns) {
#pragma GCC unroll 12
  for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      A* at = to + m * stride + v * kLanes<A>;
      const int64_t left = columns - v * kLanes<A>;
      if (left >= kLanes<A>) {
        store(at, load(at) + block.sum[m][v]);
      } else {
        store(at, load(at, Short{left}) + block.sum[m][v], Short{left});
      }
    }
  }
}

// to += left * right.
template <class F>
__attribute__((noinline)) void add_product(
    Compute<F>* to, int64_t stride, int64_t rows, int64_t columns, const Factors<F>& factors) {
  for_product_blocks(factors, rows, columns, [&](const auto& block, int64_t row, int64_t column) {
    add_block(block, to + row * stride + column, stride, columns - column);
  });
}

}  // namespace
}  // namespace bam_fused::cpu
