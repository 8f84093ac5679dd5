// Every kernel once over a few shapes with several blocks, slabs and splits, for ThreadSanitizer: link it with
// threads.cpp.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/target.h"
#include "../operations/gate.h"
#include "../operations/global_avg_pool.h"

using namespace bam_fused;

namespace {

void run(int64_t rows, int64_t columns, int threads) {
  const Extent extent{1, rows, columns};
  std::vector<float> grad(rows * columns, 1.0f), x(rows * columns, 0.5f), dx(rows * columns), out(rows * columns);
  std::vector<float> row(rows, 0.25f), column(columns, -0.5f), drow(rows), dcolumn(columns);
  const auto map_of = [&](std::vector<float>& of) { return Map{of.data(), {rows * columns, columns}}; };
  const Logits row_logits{row.data(), rows, 1, true}, column_logits{column.data(), columns, 1, true};
  const Results row_results{drow.data(), true}, column_results{dcolumn.data(), true};
  std::vector<void*> memory;
  const auto allocate = [&](size_t bytes) {
    memory.push_back(std::malloc(bytes));
    return memory.back();
  };
  const Target target{nullptr, {0, 64, 16384}, threads, allocate};  // many multiprocessors ask for many splits
  launch(GateCall{extent, Dtype::float32, Combine::sum, map_of(x), map_of(out), row_logits, column_logits}, target);
  launch(
      GateBackwardCall{
          extent, Dtype::float32, Combine::max, map_of(grad), false, map_of(x), map_of(dx), row_logits, column_logits,
          row_results, column_results},
      target);
  launch(PoolCall{extent, Dtype::float32, true, map_of(x), row_results}, target);
  launch(PoolCall{extent, Dtype::float32, false, map_of(x), column_results}, target);
  for (void* m : memory) std::free(m);
}

}  // namespace

int main() {
  run(56, 36, 32);   // groups of rows, splits
  run(48, 264, 32);  // slabs and splits of aligned rows
  run(64, 33, 32);   // accesses across rows, shared columns
  std::puts("done");
}
