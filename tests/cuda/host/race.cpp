// Every kernel once over a few shapes with several blocks, slabs and splits, for ThreadSanitizer: link it with threads.cpp.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels.h"

using namespace bam_fused;
using namespace bam_fused::cuda;

namespace {

void run(int64_t rows, int64_t columns, int threads) {
  const Extent extent{1, rows, columns};
  const Target target{nullptr, {0, 64, 16384}, threads};  // many multiprocessors ask for many splits
  std::vector<float> grad(rows * columns, 1.0f), x(rows * columns, 0.5f), dx(rows * columns), out(rows * columns);
  std::vector<float> row(rows, 0.25f), column(columns, -0.5f), drow(rows), dcolumn(columns);
  const auto matrix = [&](std::vector<float>& of) { return Map{of.data(), {rows * columns, columns}}; };
  const Logits row_logits{row.data(), rows, 1, true}, column_logits{column.data(), columns, 1, true};
  const Results row_results{drow.data(), true}, column_results{dcolumn.data(), true};
  std::vector<void*> memory;
  const Allocate allocate = [&](size_t bytes) {
    memory.push_back(std::malloc(bytes));
    return memory.back();
  };
  gate(extent, Dtype::float32, Combine::sum, matrix(x), row_logits, column_logits, matrix(out), target);
  gate_backward(
      extent, Dtype::float32, Combine::max, matrix(grad), false, matrix(x), row_logits, column_logits, matrix(dx),
      row_results, column_results, target, allocate);
  global_avg_pool(extent, Dtype::float32, true, matrix(x), row_results, target, allocate);
  global_avg_pool(extent, Dtype::float32, false, matrix(x), column_results, target, allocate);
  for (void* m : memory) std::free(m);
}

}  // namespace

int main() {
  run(56, 36, 32);   // groups of rows, splits
  run(48, 264, 32);  // slabs and splits of aligned rows
  run(64, 33, 32);   // accesses across rows, shared columns
  std::puts("done");
}
