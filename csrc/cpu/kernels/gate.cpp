// The gate on one tile: out = x + x * sigmoid(combine(row logit, column logit)), and its backward.
#include "../../operations/gate.h"

#include "columns.h"
#include "gate_at.h"
#include "tiled.h"
#include "tiles.h"

namespace bam_fused::cpu {
namespace {

using TiledGate = Tiled<GateCall>;
using TiledGateBackward = Tiled<GateBackwardCall>;

// The columns of a row that fill a few vectors at a time, under "product" inside the range; how many are done. It
// rather has some done again than leaves less than a vector.
template <class T, class A = Compute<T>>
inline int64_t gate_products(const T* x, T* out, const TileLogits<A>& logits, int64_t row, int64_t columns) {
  constexpr int at_once = 4;
  const Vec<A> same = splat(logits.row.logit[row]);
  int64_t k = 0;
  for (; k + at_once * kLanes<A> <= columns; k += at_once * kLanes<A>) {
    Vec<A> gates[at_once];
    for_each<at_once>([&](int i) { gates[i] = -(same * load(logits.column.logit + k + i * kLanes<A>)); });
    exp_in_range(gates);
    for_each<at_once>([&](int i) { gates[i] = reciprocal<T>(A(1) + gates[i]); });
    for_each<at_once>([&](int i) {
      const Vec<A> v = load(x + k + i * kLanes<A>);
      store(out + k + i * kLanes<A>, v * gates[i] + v);
    });
  }
  return k > 0 && k < columns && columns - k < kLanes<A> ? columns - kLanes<A> : k;
}

template <class T, Combine combine, bool inside>
void gate_tile(const TiledGate& arguments, const Tile& tile, const TileLogits<Compute<T>>& logits) {
  using A = Compute<T>;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const T* x = row_at<const T>(arguments.x, tile, row);
    T* out = row_at<T>(arguments.out, tile, row);
    const int64_t done =
        inside && combine == Combine::product ? gate_products<T>(x, out, logits, row, tile.columns) : 0;
    for_columns<A>(tile.columns - done, [&](int64_t k, auto part) {
      const Vec<A> v = load(x + done + k, part);
      store(out + done + k, v * gate_at<T, combine, inside>(logits, row, done + k).value + v, part);
    });
  }
}

template <class A> struct Shares {
  Vec<A> row, column;
};

// What the gradient t of the combined logits is for each of them. Under "max" the loser gets 0, whatever t is, and on a
// tie each gets half, as from torch.maximum; a NaN loses to none.
template <Combine combine, class A> inline Shares<A> shares(Vec<A> t, Vec<A> row_logit, Vec<A> column_logit) {
  if constexpr (combine == Combine::sum) return {t, t};
  if constexpr (combine == Combine::product) return {t * column_logit, t * row_logit};
  const Vec<A> share = row_logit == column_logit ? t * A(0.5) : t;
  return {keep<A>(~(row_logit < column_logit), share), keep<A>(~(row_logit > column_logit), share)};
}

// With t = grad * x * slope: dx = grad + grad * sigmoid, and the shares of t are summed over the row and over the
// column.
template <class T, Combine combine, bool inside, bool writes_dx>
void gate_backward_tile(const TiledGateBackward& arguments, const Tile& tile, const TileLogits<Compute<T>>& logits) {
  using A = Compute<T>;
  const Tiling& tiling = arguments.tiling;
  A column_sums[kMaxTileColumns<A> + kLanes<A>];
  memset(column_sums, 0, (tile.columns + kLanes<A>)*sizeof(A));
  A* row_sums =
      (A*)arguments.row_partials + (tile.sample * tiling.column_tiles + tile.column_tile) * tiling.rows + tile.row;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const T* grad = row_at<const T>(arguments.grad, tile, row);
    const T* x = row_at<const T>(arguments.x, tile, row);
    T* dx = writes_dx ? row_at<T>(arguments.dx, tile, row) : nullptr;
    const Vec<A> row_logit = splat(logits.row.logit[row]);
    row_sums[row] = sum_columns<A>(tile.columns, [&](int64_t k, auto part) {
      const Vec<A> g = load(grad + k, part);
      const Sigmoid<A> gate = gate_at<T, combine, inside>(logits, row, k);
      const Vec<A> t = only_new<A>(g * load(x + k, part) * gate.slope, part);
      if constexpr (writes_dx) store(dx + k, g * gate.value + g, part);
      const Shares<A> share = shares<combine, A>(t, row_logit, load(logits.column.logit + k));
      store(column_sums + k, load(column_sums + k) + share.column);
      return share.row;
    });
  }
  A* column_partials =
      (A*)arguments.column_partials + (tile.sample * tiling.row_tiles + tile.row_tile) * tiling.columns + tile.column;
  memcpy(column_partials, column_sums, tile.columns * sizeof(A));
}

// Calls body(tile, logits, inside) for the tiles begin to end, with the logits of each loaded.
template <class A, Combine combine, bool slopes, class Body>
inline void for_gate_tiles(
    const Tiling& tiling, const void* row_logits, const void* column_logits, int64_t begin, int64_t end, Body&& body) {
  alignas(BAM_VECTOR_BYTES) TileLogits<A> logits;
  int64_t sample = -1, column_tile = -1;  // whose column logits are loaded
  A column = 0;                           // the largest magnitude of those
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = tile_at(tiling, index);
    const A row = logits.row.load_logits((const A*)row_logits + tile.sample * tiling.rows + tile.row, tile.rows);
    if (tile.sample != sample || tile.column_tile != column_tile) {
      sample = tile.sample, column_tile = tile.column_tile;
      column = logits.column.load_logits((const A*)column_logits + sample * tiling.columns + tile.column, tile.columns);
      if (inside_range<combine>(A(0), column)) logits.column.template separate<combine, slopes>(tile.columns);
    }
    const bool inside = inside_range<combine>(row, column);
    if (inside) logits.row.template separate<combine, slopes>(tile.rows);
    body(tile, logits, inside);
  }
}

template <class T, Combine combine> void gate_tiles(const TiledGate& a, int64_t begin, int64_t end) {
  for_gate_tiles<Compute<T>, combine, false>(
      a.tiling, a.row.data, a.column.data, begin, end, [&](const Tile& tile, const auto& logits, bool inside) {
        inside ? gate_tile<T, combine, true>(a, tile, logits) : gate_tile<T, combine, false>(a, tile, logits);
      });
}

template <class T, Combine combine, bool writes_dx>
void gate_backward_tiles(const TiledGateBackward& a, int64_t begin, int64_t end) {
  for_gate_tiles<Compute<T>, combine, true>(
      a.tiling, a.row.data, a.column.data, begin, end, [&](const Tile& tile, const auto& logits, bool inside) {
        inside ? gate_backward_tile<T, combine, true, writes_dx>(a, tile, logits)
               : gate_backward_tile<T, combine, false, writes_dx>(a, tile, logits);
      });
}

template <class T> void gate(const TiledGate& a, int64_t begin, int64_t end) {
  switch (a.combine) {
    case Combine::sum: return gate_tiles<T, Combine::sum>(a, begin, end);
    case Combine::product: return gate_tiles<T, Combine::product>(a, begin, end);
    case Combine::max: return gate_tiles<T, Combine::max>(a, begin, end);
  }
}

template <class T, Combine combine> void gate_backward_of(const TiledGateBackward& a, int64_t begin, int64_t end) {
  a.dx.data ? gate_backward_tiles<T, combine, true>(a, begin, end)
            : gate_backward_tiles<T, combine, false>(a, begin, end);
}

template <class T> void gate_backward(const TiledGateBackward& a, int64_t begin, int64_t end) {
  switch (a.combine) {
    case Combine::sum: return gate_backward_of<T, Combine::sum>(a, begin, end);
    case Combine::product: return gate_backward_of<T, Combine::product>(a, begin, end);
    case Combine::max: return gate_backward_of<T, Combine::max>(a, begin, end);
  }
}

}  // namespace

BAM_TILED_KERNEL(GateCall, gate)
BAM_TILED_KERNEL(GateBackwardCall, gate_backward)

}  // namespace bam_fused::cpu
