// The tensors of x's shape that one call reads and writes, seen with the rows chosen for all of them together.
#pragma once

#include "rows.h"
#include "tensor.h"

namespace bam_fused {

// A tensor as the kernels take it; it keeps the memory alive.
struct View {
  Tensor tensor;
  Map map;
  bool uniform = false;  // a row of one number, which stands for all rows
};

class FeatureMap {
 public:
  // All tensors that share x's shape, x among them.
  explicit FeatureMap(std::initializer_list<const Tensor*> tensors)
      : rows(choose_rows(tensors)), shape(shape_of(**tensors.begin())) {}

  const Rows rows;
  const Shape shape;

  bool rows_are_channels() const { return rows == Rows::channels; }

  // The tensor as it is if it has these rows, else a copy that has.
  View readable(const Tensor& t) const {
    return strides_of(t, rows).match(
        [&](Strides strides) { return View{t, {const_cast<void*>(t.const_data_ptr()), strides}}; },
        [&] {
          View copy = fresh(t);
          torch::stable::copy_(copy.tensor, t);
          return copy;
        });
  }

  // A gradient may also repeat one number, as that of `sum()` does: then one row stands for all.
  View readable_gradient(const Tensor& grad) const {
    if (strides_of(grad, rows).any() || !repeats_one_number(grad)) return readable(grad);
    const int64_t columns = shape.columns(rows);
    Tensor row = torch::stable::new_empty(grad, {columns});
    Tensor numbers = torch::stable::flatten(grad, 0, -1);
    torch::stable::copy_(row, torch::stable::narrow(numbers, 0, 0, columns));
    return {row, {row.data_ptr(), {0, 0}}, true};
  }

  // Where a kernel writes what is to become `out`: `out` itself if it has these rows, else a stand-in; `finish` copies
  // that.
  View writable(const Tensor& out) const {
    return strides_of(out, rows).match(
        [&](Strides strides) { return View{out, {out.data_ptr(), strides}}; }, [&] { return fresh(out); });
  }

  void finish(const View& written, Tensor& out) const {
    if (written.map.data != out.data_ptr()) torch::stable::copy_(out, written.tensor);
  }

 private:
  static bool repeats_one_number(const Tensor& t) {  // every stride that counts is 0
    const auto size = t.sizes(), stride = t.strides();
    for (size_t d = 0; d < size.size(); ++d) {
      if (size[d] > 1 && stride[d] != 0) return false;
    }
    return true;
  }

  // Uninitialised, dense, of x's shape and with these rows.
  View fresh(const Tensor& like) const {
    const int64_t n = like.size(0), c = like.size(1), h = like.size(2), w = like.size(3);
    Tensor t = rows_are_channels() ? torch::stable::new_empty(like, {n, c, h, w})
                                   : torch::stable::new_empty(like, {n, h, w, c});
    prepare_memory(t);
    if (!rows_are_channels()) t = torch::stable::transpose(torch::stable::transpose(t, 1, 3), 2, 3);
    return {t, {t.data_ptr(), {shape.channels * shape.positions, shape.columns(rows)}}};
  }
};

inline Extent extent_of(const FeatureMap& map) {
  return {map.shape.samples, map.shape.rows(map.rows), map.shape.columns(map.rows)};
}

}  // namespace bam_fused
